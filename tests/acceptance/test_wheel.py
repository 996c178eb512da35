"""The installed copy: a wheel carries everything and needs no checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from exporter import __version__
from exporter.paths import known_revisions, migrations_folder
from tests.archives.builder import SqliteArchive

CHECKOUT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "hatchling", "build", "--target", "wheel")
    run(*build, "--directory", folder, cwd=CHECKOUT)
    (made,) = folder.glob("*.whl")
    return made


def test_a_wheel_carries_migrations_schemas_and_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    carried = {
        "exporter/_alembic/env.py",
        "exporter/_alembic/script.py.mako",
        *(f"exporter/_alembic/versions/{path.name}" for path in migration_scripts()),
        *(f"exporter/_schemas/{path.name}" for path in (CHECKOUT / "schemas").glob("*.json")),
        *(
            str(path.relative_to(CHECKOUT))
            for pattern in ("*.py", "*.sql", "data/*.gz", "py.typed")
            for path in (CHECKOUT / "exporter").rglob(pattern)
        ),
    }
    assert carried - names == set()
    assert [name for name in names if name.startswith(("tests", "alembic"))] == []
    assert wheel.name == f"exporter-{__version__}-py3-none-any.whl"


def migration_scripts() -> list[Path]:
    return list((migrations_folder() / "versions").glob("*.py"))


@pytest.fixture(scope="module")
def place(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed in; it is found before the checkout."""
    place = tmp_path_factory.mktemp("installed") / "site"
    install = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    run(*install, "--target", place, wheel, cwd=place.parent)
    return place


@pytest.fixture
def there(place: Path, tmp_path: Path, empty_database_url: str) -> dict[str, str]:
    """What makes a process in ``tmp_path`` use the installed copy, and nothing of the checkout."""
    variables = {"PYTHONPATH": str(place), "EXPORTER_DATABASE_URL": empty_database_url}
    where = "import exporter; print(exporter.__file__)"
    found = run(sys.executable, "-c", where, cwd=tmp_path, **variables)
    assert found.strip() == str(place / "exporter" / "__init__.py")
    return variables


PROGRAM = (sys.executable, "-m", "exporter")


def test_an_installed_copy_migrates_without_a_checkout(
    tmp_path: Path, there: dict[str, str]
) -> None:
    assert "BEGIN;" in run(*PROGRAM, "db", "sql", cwd=tmp_path, **there)
    up = run(*PROGRAM, "db", "upgrade", cwd=tmp_path, **there)
    assert up == f"schema exporter: revision {known_revisions()[-1]} (at head)\n"


#: An import by processes of its own, whatever the size of the source; they are made anew, so that
#: each must find the installed copy by itself.
IMPORT_APART = """
import sys

from exporter.cli.main import run
from exporter.importers import agentsview, readers

agentsview.APART_MESSAGES = 0
agentsview._cores = lambda: 2

if __name__ == "__main__":
    begun = []
    read_by = readers.read_by
    readers.read_by = lambda *given: begun.append(1) or read_by(*given)
    code = run(["import", "agentsview", sys.argv[1], "--json"])
    assert begun, "no process of its own was begun"
    sys.exit(code)
"""


@pytest.mark.parametrize("apart", [False, True], ids=["here", "apart"])
def test_an_installed_copy_imports_and_exports_without_a_checkout(
    tmp_path: Path, there: dict[str, str], *, apart: bool
) -> None:
    archive = tmp_path / "sessions.db"
    ids = fill(archive)
    run(*PROGRAM, "db", "upgrade", cwd=tmp_path, **there)
    bring = (sys.executable, "-c", IMPORT_APART) if apart else (*PROGRAM, "import", "agentsview")
    given = () if apart else ("--json",)
    run(*bring, archive, *given, cwd=tmp_path, **there)
    output = tmp_path / "sessions.ndjson"
    flags = ("--all", "--ndjson", "--validate", "--output", output)
    assert run(*PROGRAM, "sessions", *flags, cwd=tmp_path, **there) == ""
    _, *rows = map(json.loads, output.read_text().splitlines())
    assert {row["id"] for row in rows} == ids
    assert {row["model_usage"]["input_tokens"] for row in rows} == {7}


def fill(path: Path) -> set[str]:
    """Make a small source archive; returns the ids of its sessions."""
    ids = {f"s{number}" for number in range(12)}
    with SqliteArchive(path) as archive:
        archive.add_price("orca-large-2")
        for name in sorted(ids):
            archive.add_session(name, project="tern")
            usage = {"input_tokens": 7, "output_tokens": 2}
            archive.add_message(name, model="orca-large-2", token_usage=usage)
    return ids
