"""What the commands of ``exporter artifacts`` share: the plan, the output, and who may what."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from exporter.cli.options import Text
from exporter.cli.output import file_target
from exporter.errors import BadInput

if TYPE_CHECKING:
    import psycopg

    from exporter.core.runzip import Buffer

EXAMPLE_ID = "6f1c1c0e-2f5a-4a6e-9a57-0c3d8f0f3a11"

plan_argument = click.argument("plan", type=click.UUID, metavar="ID")
output_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to write; default: stdout, unless it is a terminal.",
)
purpose_option = click.option(
    "--purpose", type=Text(), default="", metavar="TEXT", help="Kept with the record of this read."
)


def require(conn: psycopg.Connection[Any], privilege: str, *columns: str) -> None:
    """Raise MissingRights, naming the column of the plan table that the role may not use."""
    from exporter.artifacts import plans
    from exporter.db import grants

    table = plans.find(conn)
    grants.require(conn, table.schema, table.name, privilege, *columns)


def write(output: Path | None, parts: Iterable[Buffer]) -> None:
    """To a file, which appears whole or not at all, or to stdout."""
    if output is None or str(output) == "-":
        if sys.stdout.isatty():
            raise BadInput("--output", "stdout is a terminal", accepted="-o FILE")
        _write_parts(sys.stdout.buffer, parts)
        return
    # For the owner only: it may be the raw log.
    with file_target(str(output), private=True) as out:
        _write_parts(out, parts)


def _write_parts(out: IO[bytes], parts: Iterable[Buffer]) -> None:
    for part in parts:
        out.write(part)
