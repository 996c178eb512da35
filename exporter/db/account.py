"""The system account that the embedded server runs under when we are root.

PostgreSQL refuses to run as root. Root's server runs as the owner of its data folder, or, for a
new one, as ``postgres``, ``pgserver`` or ``nobody``, whichever exists; no account is made for it.
It must be able to reach the data folder and the binaries, and no folder above them is ever opened
up for it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from exporter.errors import FolderNotWritable, ServerStartFailed


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


def check_reachable(home: Path, account: Account | None) -> None:
    """As root: the server's account must be able to pass every folder above the home folder."""
    found = barrier(home.parent.resolve(), account) if account else None
    if account and found:
        raise FolderNotWritable(
            str(home),
            f"the account {account.name!r} that the server runs as may not enter {found}",
            hint="set EXPORTER_HOME to a folder outside it, such as /var/lib/exporter",
        )
