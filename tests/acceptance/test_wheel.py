"""The installed copy: a wheel carries everything and needs no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from exporter import __version__
from exporter.paths import known_revisions, migrations_folder

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


def test_an_installed_copy_migrates_without_a_checkout(
    wheel: Path, tmp_path: Path, empty_database_url: str
) -> None:
    """The copy is found before the checkout, and runs in a folder of its own."""
    place = tmp_path / "site"
    install = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    run(*install, "--target", place, wheel, cwd=tmp_path)
    there = {"PYTHONPATH": str(place), "EXPORTER_DATABASE_URL": empty_database_url}
    program = (sys.executable, "-m", "exporter", "db")
    where = run(
        sys.executable, "-c", "import exporter; print(exporter.__file__)", cwd=tmp_path, **there
    )
    assert where.strip() == str(place / "exporter" / "__init__.py")
    assert "BEGIN;" in run(*program, "sql", cwd=tmp_path, **there)
    up = run(*program, "upgrade", cwd=tmp_path, **there)
    assert up == f"schema exporter: revision {known_revisions()[-1]} (at head)\n"
