"""The origin program, agentsview, run in a home folder of its own.

Every run gets an empty environment, so nothing of the developer's own archive is seen, and
``AGENTSVIEW_NO_DAEMON`` keeps the program from leaving a server behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.archives.builder import Era, SqliteArchive


@dataclass(frozen=True)
class Result:
    """What one run of a program left: exit code, standard output, standard error."""

    exit: int
    stdout: str
    stderr: str


def program() -> Path | None:
    """The installed ``agentsview``: beside this Python, else on the path, else none.

    Beside this Python is a script that only starts the program in its package; that one is taken.
    """
    packaged = Path(sysconfig.get_path("platlib"), "agentsview", "bin", "agentsview")
    if os.access(packaged, os.X_OK):
        return packaged
    beside = Path(sys.executable).parent / "agentsview"
    if beside.exists():
        return beside
    found = shutil.which("agentsview")
    return Path(found) if found else None


class Origin:
    """agentsview with its data under one home folder."""

    def __init__(self, home: Path, executable: Path | None = None) -> None:
        found = executable or program()
        if found is None:
            raise FileNotFoundError("agentsview is not installed")
        self.executable = found
        self.home = home
        self.data.mkdir(parents=True, exist_ok=True)

    @property
    def data(self) -> Path:
        """The folder with the archive and the configuration."""
        return self.home / ".agentsview"

    @property
    def archive(self) -> Path:
        """The SQLite archive."""
        return self.data / "sessions.db"

    def run(self, *arguments: str, **environment: str) -> Result:
        """Run one command to its end."""
        done = subprocess.run(
            [str(self.executable), *arguments],
            env=self._environment(environment),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            stdin=subprocess.DEVNULL,
            timeout=300,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        return {
            "PATH": os.defpath,
            "HOME": str(self.home),
            "TZ": "UTC",
            "AGENTSVIEW_NO_DAEMON": "1",
            "AGENTSVIEW_TELEMETRY_ENABLED": "0",
            "AGENTSVIEW_DISABLE_UPDATE_CHECK": "1",
            **more,
        }

    def sync(self) -> None:
        """Read the transcripts under the home folder into the archive, making it if missing."""
        done = self.run("sync")
        if done.exit != 0:
            raise RuntimeError(f"agentsview sync failed: {done.stderr}")

    def export_sessions(self, *flags: str) -> Result:
        """``export sessions`` with these flags."""
        return self.run("export", "sessions", *flags)

    def build(self, era: Era = "0.37.1") -> SqliteArchive:
        """The archive opened for the factories; one made from the layout file if there is none."""
        return SqliteArchive(self.archive, era)

    def stop(self) -> None:
        """End a server of this home folder, should one have been started after all."""
        self.run("serve", "stop")
