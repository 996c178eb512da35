"""Our own command line: run as a user runs it, or within this process, which is much faster."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.archives.inside import run_inside
from tests.interop.origin import Origin, Result

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ours:
    """``python -m exporter`` on one migrated database."""

    database_url: str

    def run(self, *arguments: str) -> Result:
        """Run one command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "exporter", *arguments],
            env=self._environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            stdin=subprocess.DEVNULL,
            timeout=300,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "EXPORTER_DATABASE_URL": self.database_url, "TZ": "UTC"}

    def bring(self, source: str | Path) -> None:
        """Import an agentsview archive; a run with findings is as good as a clean one."""
        done = self.run("import", "agentsview", str(source))
        if done.exit not in (0, 3):
            raise AssertionError(f"the import ended with {done.exit}: {done.stderr}")

    def export_sessions(self, *flags: str) -> Result:
        """``sessions`` with these flags."""
        return self.run("sessions", *flags)


@dataclass(frozen=True)
class OursInside(Ours):
    """The same without a process for each command; what it says is read in the same way."""

    def run(self, *arguments: str) -> Result:
        """Run one command to its end."""
        with contextlib.chdir(ROOT):
            code, out, err = run_inside(arguments, self._environment())
        return Result(code, _text(out), _text(err))


def _text(written: bytes) -> str:
    return io.TextIOWrapper(io.BytesIO(written), "utf-8", "surrogateescape").read()


@dataclass(frozen=True)
class Pair:
    """Both programs after they read the same archive."""

    origin: Origin
    ours: Ours
