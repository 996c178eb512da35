"""Make golden documents again: a source archive as SQL text, imported and exported by this program.

Everything happens where nobody's data is: on a server of its own in a temporary folder or, on a
server that the caller names, in a schema of its own. Both are gone afterwards.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Final

from exporter.contracts.release import SEED, Reproduce
from exporter.errors import ExporterError
from exporter.settings import Settings, load

#: In a golden folder: which file each command line of ours makes.
COMMANDS: Final = "commands.json"
_MIGRATING: Final = Lock()
#: Nothing here outlives the command, so nothing needs to reach the disk.
_SERVER_OPTIONS: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
}


@contextmanager
def reproducer(database_url: str | None) -> Iterator[Reproduce]:
    """A function that makes the output of a golden folder; its place goes with the block."""
    with tempfile.TemporaryDirectory(prefix="exporter-check-") as text:
        folder = Path(text)
        # The server of a caller who is root runs under another account, which must get through.
        folder.chmod(0o711)
        with _place(database_url, folder) as settings:
            yield lambda golden: _outputs(golden, settings, folder)


@contextmanager
def _place(database_url: str | None, folder: Path) -> Iterator[Settings]:
    from exporter.db import server

    if database_url is not None:
        yield load(database_url, environ={})
        return
    try:
        server.start(folder / "pg", _SERVER_OPTIONS)
        # Not by its URL: variables of libpq's must not lead away from it.
        yield Settings(chosen_home=folder / "pg")
    finally:
        server.stop(folder / "pg")


@contextmanager
def _scratch_schema(settings: Settings) -> Iterator[Settings]:
    from psycopg import sql

    from exporter.db import connect

    scratch = replace(settings, schema=f"exporter_check_{secrets.token_hex(4)}")
    try:
        yield scratch
    finally:
        with connect.session(scratch, at_head=False) as conn:
            name = connect.schema_identifier(scratch)
            conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(name))


def _outputs(golden: Path, settings: Settings, folder: Path) -> Mapping[str, bytes]:
    """What the commands of a folder print of its seed, with nobody else's data beside it."""
    with _scratch_schema(settings) as scratch:
        return _outputs_of(golden, scratch, folder)


def _outputs_of(golden: Path, settings: Settings, folder: Path) -> Mapping[str, bytes]:
    from exporter.db import connect, migrate

    source = folder / f"{secrets.token_hex(4)}.db"
    with sqlite3.connect(source) as archive:
        archive.executescript((golden / SEED).read_text("utf-8"))
    archive.close()
    # Alembic keeps what it is doing in its modules.
    with _MIGRATING:
        migrate.upgrade(settings)
    with connect.session(settings) as conn:
        conn.execute((golden / "archive.sql").read_bytes())
    _run(settings, golden, "import", "agentsview", str(source), "--quiet")
    commands = json.loads((golden / COMMANDS).read_bytes())
    with ThreadPoolExecutor(2) as pool:
        outputs = pool.map(lambda line: _run(settings, golden, *line), commands.values())
        return dict(zip(commands, outputs, strict=True))


def _run(settings: Settings, golden: Path, *arguments: str) -> bytes:
    """What a command of ours writes to stdout, run in a folder and away from our settings."""
    command = [sys.executable, "-m", "exporter", *arguments]
    done = subprocess.run(
        command, env=_environment(settings), cwd=golden, capture_output=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise ExporterError(f"'exporter {arguments[0]}' failed on golden data ({said})")
    return done.stdout


def _environment(settings: Settings) -> dict[str, str]:
    """The environment of a command that knows no settings but these."""
    from exporter.db import connect

    others = ("EXPORTER_", "PG")
    # Other threads hide libpq's variables for moments: of those not even the value is asked for.
    names = [name for name in list(os.environ) if not name.startswith(others)]
    environment = {name: os.environ[name] for name in names if name != "DATABASE_URL"}
    environment["EXPORTER_DATABASE_URL"] = connect.database_url(settings)
    environment["EXPORTER_SCHEMA"] = settings.schema
    return environment
