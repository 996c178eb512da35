"""The system account that the embedded server runs under when we are root.

PostgreSQL refuses to run as root. Root's server runs as the owner of its data folder, or, for a
new one, as ``postgres``, ``pgserver`` or ``nobody``, whichever exists; no account is made for it.
No folder above the data or the binaries is ever opened up for that account.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from exporter.errors import FolderNotWritable, ServerStartFailed

_WORKING_FOLDER = "/proc/self/cwd"


@dataclass(frozen=True, slots=True)
class Account:
    """A system account, as the server's processes take it on."""

    name: str
    uid: int
    gid: int


def is_root() -> bool:
    return os.geteuid() == 0


def server_account(data: Path) -> Account | None:
    """The account for the server of a data folder; None when we are no root and it is our own.

    Raises FolderNotWritable or ServerStartFailed when there is none.
    """
    if not is_root():
        return None
    import pwd

    if data.is_dir() and data.stat().st_uid != 0:
        try:
            entry = pwd.getpwuid(data.stat().st_uid)
        except KeyError as error:
            raise FolderNotWritable(str(data), "its owner has no account here") from error
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in ("postgres", "pgserver", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise ServerStartFailed("PostgreSQL does not run as root and no account 'postgres' exists")


def barrier(path: Path, account: Account) -> Path | None:
    """The first folder on the way to ``path`` that the account may not enter; None if it may.

    What does not exist yet is no barrier: we make it.
    """
    for folder in reversed([path, *path.parents]):
        if not folder.exists():
            return None
        found = folder.stat()
        if found.st_uid == account.uid:
            allowed = found.st_mode & stat.S_IXUSR
        elif found.st_gid == account.gid:
            allowed = found.st_mode & stat.S_IXGRP
        else:
            allowed = found.st_mode & stat.S_IXOTH
        if not allowed:
            return folder
    return None


def as_seen_by(account: Account | None, data: Path) -> str:
    """The path by which the server's processes, started inside the folder, name their data folder.

    An account that may not pass a folder above (root's own, or a private temporary one) can still
    work in the folder it was started in; Linux has a name for that one. Elsewhere this raises
    FolderNotWritable.
    """
    found = barrier(data.parent.resolve(), account) if account else None
    if account is None or found is None:
        return str(data)
    if os.path.isdir(_WORKING_FOLDER):
        return _WORKING_FOLDER
    raise FolderNotWritable(
        str(data),
        f"the account {account.name!r} that the server runs as may not enter {found}",
        hint="set EXPORTER_HOME to a folder outside it, such as /var/lib/exporter",
    )
