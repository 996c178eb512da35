"""Our own command line, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

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
            env={"PATH": os.defpath, "EXPORTER_DATABASE_URL": self.database_url, "TZ": "UTC"},
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

    def bring(self, source: str | Path) -> None:
        """Import an agentsview archive; a run with findings is as good as a clean one."""
        done = self.run("import", "agentsview", str(source))
        if done.exit not in (0, 3):
            raise AssertionError(f"the import ended with {done.exit}: {done.stderr}")

    def export_sessions(self, *flags: str) -> Result:
        """``sessions`` with these flags."""
        return self.run("sessions", *flags)


@dataclass(frozen=True)
class Pair:
    """Both programs after they read the same archive."""

    origin: Origin
    ours: Ours
