"""Options and ``EXPORTER_*`` variables to one frozen :class:`Settings`.

The only module that reads the environment. Everything below the command line takes a Settings,
or what it needs out of one, as an argument.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exporter.errors import BadInput, place_of

#: Every variable that the program reads, with what it does; docs and tests use this list.
VARIABLES: Mapping[str, str] = {
    "EXPORTER_DATABASE_URL": "PostgreSQL to use; before DATABASE_URL",
    "DATABASE_URL": "PostgreSQL to use when the one above is not set",
    "EXPORTER_HOME": "folder of the embedded server; default: the platform's data folder",
    "EXPORTER_SCHEMA": "schema of the toolkit's tables; default: exporter",
    "EXPORTER_CONNECT_TIMEOUT": "seconds to wait for a server to answer; default: 10",
    "EXPORTER_LOCK_TIMEOUT_MS": "milliseconds to wait for a lock; default: 10000; 0: no limit",
    "EXPORTER_STATEMENT_TIMEOUT_MS": "milliseconds per statement; default: 0, no limit",
    "EXPORTER_CUSTOM_PRICES": "TOML file with rates of your own, as --custom-prices names one",
    "EXPORTER_DEBUG": "1: show the trace-back of a failure, as --debug does",
    "NO_COLOR": "any value: no colour on terminals",
}

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
_SCHEME = re.compile(r"(postgres|postgresql)(\+\w+)?://", re.ASCII)
_KEY_VALUE = re.compile(r"\s*\w+\s*=", re.ASCII)
_URL_EXAMPLE = "postgresql://USER@HOST:5432/DATABASE"


@dataclass(frozen=True, slots=True)
class Settings:
    """What one run of the program was told, checked."""

    #: URL of the server to use, in libpq's spelling; None means the embedded server.
    database_url: str | None = None
    #: Folder of the embedded server as given; None means :func:`default_home`.
    chosen_home: Path | None = None
    schema: str = "exporter"
    connect_timeout_seconds: int = 10
    lock_timeout_ms: int = 10_000
    #: 0: no limit, since an export or an import may rightly run for hours.
    statement_timeout_ms: int = 0

    @property
    def home(self) -> Path:
        """Folder of the embedded server, absolute."""
        return self.chosen_home or default_home()

    @property
    def place(self) -> str:
        """Names the database in messages, without secrets."""
        return place_of(self.database_url) if self.database_url else "the embedded server"


def load(database_url: str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the ``--database-url`` option and the environment; the option wins.

    An empty variable counts as not set. Raises BadInput (exit 2) for values that cannot be meant.
    """
    environ = os.environ if environ is None else environ
    return Settings(
        database_url=_database_url(database_url, environ),
        chosen_home=_home(environ),
        schema=_schema(environ.get("EXPORTER_SCHEMA") or "exporter"),
        connect_timeout_seconds=_whole(environ, "EXPORTER_CONNECT_TIMEOUT", 10, least=1),
        lock_timeout_ms=_whole(environ, "EXPORTER_LOCK_TIMEOUT_MS", 10_000),
        statement_timeout_ms=_whole(environ, "EXPORTER_STATEMENT_TIMEOUT_MS", 0),
    )


def libpq_url(name: str, url: str) -> str:
    """Bring a database URL to the spelling that libpq reads.

    ``postgres://`` and SQLAlchemy's ``postgresql+driver://`` are accepted; so is libpq's
    "key=value" text. ``name`` is the option or variable that a complaint names.
    """
    url = url.strip()
    scheme = _SCHEME.match(url)
    if scheme:
        return "postgresql://" + url[scheme.end() :]
    if "://" not in url and _KEY_VALUE.match(url):
        return url
    found = url.partition("://")[0] + "://" if "://" in url else "no URL"
    raise BadInput(name, f"{found} is not a PostgreSQL URL", accepted=_URL_EXAMPLE)


def default_home() -> Path:
    """The platform's folder for application data; root gets the system's own.

    Root's server runs under another account, which has no business in root's private folder.
    """
    import platformdirs

    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path(platformdirs.site_state_dir("exporter", appauthor=False))
    return Path(platformdirs.user_data_dir("exporter", appauthor=False))


def _database_url(option: str | None, environ: Mapping[str, str]) -> str | None:
    candidates = {
        "--database-url": option,
        "EXPORTER_DATABASE_URL": environ.get("EXPORTER_DATABASE_URL"),
        "DATABASE_URL": environ.get("DATABASE_URL"),
    }
    for name, url in candidates.items():
        if url and url.strip():
            return libpq_url(name, url)
    return None


def _home(environ: Mapping[str, str]) -> Path | None:
    text = environ.get("EXPORTER_HOME")
    if not text:
        return None
    if "\0" in text or "\n" in text:
        raise BadInput("EXPORTER_HOME", "a path has no line break", accepted="/var/lib/exporter")
    return Path(text).expanduser().absolute()


def _schema(name: str) -> str:
    """A name that needs no quotes; not the schema where a host program keeps its own tables."""
    reserved = name.startswith("pg_") or name in ("public", "information_schema")
    if reserved or not _SCHEMA.match(name):
        raise BadInput(
            "EXPORTER_SCHEMA",
            f"{name!r} is reserved" if reserved else f"{name!r} is not a plain lower-case name",
            accepted="a schema of its own, such as exporter or exporter_2",
        )
    return name


def _whole(environ: Mapping[str, str], name: str, default: int, *, least: int = 0) -> int:
    text = (environ.get(name) or "").strip()
    if not text:
        return default
    # PostgreSQL keeps these as 32-bit integers.
    if not (text.isascii() and text.isdigit()) or not least <= int(text) <= 2_147_483_647:
        raise BadInput(
            name, f"{text!r} is not a whole number from {least} up", accepted=str(default)
        )
    return int(text)
