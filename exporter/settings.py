"""Options and ``EXPORTER_*`` variables to one frozen :class:`Settings`.

The only module that reads the environment. Everything below the command line takes a Settings,
or what it needs out of one, as an argument.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    "EXPORTER_DOWNLOAD_SECRET": "signs download tickets; 32 bytes or more",
    "EXPORTER_BLOB_URL": "object store for large logs and originals: a folder or s3://BUCKET/PREFIX",
    "EXPORTER_INLINE_MAX_BYTES": "larger logs and originals leave the database; default: 32 MiB",
    "EXPORTER_INLINE_TOTAL_MAX": "bytes of them in the database before all leave; default: 20 GiB",
    "EXPORTER_DEBUG": "1: show the trace-back of a failure, as --debug does",
    "NO_COLOR": "any value: no colour on terminals",
}

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
_SCHEME = re.compile(r"(postgres|postgresql)(\+\w+)?://", re.ASCII)
_KEY_VALUE = re.compile(r"\s*\w+\s*=", re.ASCII)
_URL_EXAMPLE = "postgresql://USER@HOST:5432/DATABASE"
_OF_LIBPQ = re.compile(r"PG[A-Z]+")
_PLAIN_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}")
#: PostgreSQL keeps its settings as 32-bit integers.
_LARGEST = 2_147_483_647


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
    #: Signs download tickets; empty when there are to be none.
    download_secret: str = field(default="", repr=False)
    #: Object store as given, not checked yet; None: everything stays in the database.
    blob_url: str | None = None
    inline_max_bytes: int = 32 * 1024**2
    inline_total_max_bytes: int = 20 * 1024**3

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

    An empty variable counts as not set; an empty option is a mistake, such as a shell variable
    without a value. Raises BadInput (exit 2) for values that cannot be meant.
    """
    environ = os.environ if environ is None else environ
    if database_url is not None and not database_url.strip():
        raise BadInput("--database-url", "it is empty", accepted=_URL_EXAMPLE)
    return Settings(
        database_url=_database_url(database_url, environ),
        chosen_home=_home(environ),
        schema=_schema(environ.get("EXPORTER_SCHEMA") or "exporter"),
        connect_timeout_seconds=_whole(environ, "EXPORTER_CONNECT_TIMEOUT", 10, least=1),
        lock_timeout_ms=_whole(environ, "EXPORTER_LOCK_TIMEOUT_MS", 10_000),
        statement_timeout_ms=_whole(environ, "EXPORTER_STATEMENT_TIMEOUT_MS", 0),
        download_secret=environ.get("EXPORTER_DOWNLOAD_SECRET") or "",
        blob_url=(environ.get("EXPORTER_BLOB_URL") or "").strip() or None,
        inline_max_bytes=_whole(environ, "EXPORTER_INLINE_MAX_BYTES", 32 * 1024**2),
        inline_total_max_bytes=_whole(
            environ, "EXPORTER_INLINE_TOTAL_MAX", 20 * 1024**3, most=2**62
        ),
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
    raise BadInput(name, f"{scheme_of(url)} is not a PostgreSQL URL", accepted=_URL_EXAMPLE)


def scheme_of(text: str) -> str:
    """The scheme of a URL, to name it without what else it holds: "mysql://", or "this"."""
    scheme, found, _ = text.partition("://")
    return f"{scheme}://" if found and _PLAIN_SCHEME.fullmatch(scheme) else "this"


def given_path(name: str, text: str) -> Path:
    """The path that an option, argument or variable names, its ``~`` filled in.

    It need not exist. Raises BadInput, naming ``name``, for what can be no path at all.
    """
    if not text or "\0" in text:
        problem = "a path holds no NUL" if text else "it is empty"
        raise BadInput(name, problem, accepted="a path such as ./name or /var/lib/exporter")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        user = text.partition("/")[0]
        raise BadInput(
            name, f"{user} is no user with a home here", accepted=f"a full path, or ./{user}"
        ) from None


def default_home() -> Path:
    """The platform's folder for application data; root gets the system's own.

    Root's server runs under another account, which has no business in root's private folder.
    Raises BadInput for an account that has no home folder.
    """
    import platformdirs

    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path(platformdirs.site_state_dir("exporter", appauthor=False))
    try:
        folder = Path(platformdirs.user_data_dir("exporter", appauthor=False))
    except RuntimeError:
        folder = Path()
    if not folder.is_absolute() or not _is_utf8(str(folder)):
        problem = "it is not set, and this account has no home folder"
        raise BadInput("EXPORTER_HOME", problem, accepted="a folder that you own")
    return folder


@contextmanager
def libpq_variables_hidden() -> Iterator[None]:
    """Take libpq's variables (``PGSERVICE``, ``PGHOSTADDR``, ...) away while the block runs.

    Nothing in a connection string overrides all of them.
    """
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if _OF_LIBPQ.fullmatch(name)}
    try:
        yield
    finally:
        os.environ.update(hidden)


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
    # PostgreSQL keeps the path in a file of lines, and in a connection's UTF-8 text.
    if "\n" in text or not _is_utf8(text):
        problem = "its path must be UTF-8 without line breaks"
        raise BadInput("EXPORTER_HOME", problem, accepted="/var/lib/exporter")
    path = given_path("EXPORTER_HOME", text)
    try:
        return path.absolute()
    except FileNotFoundError:
        raise BadInput(
            "EXPORTER_HOME", "the current folder is gone", accepted="a path that begins with /"
        ) from None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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


def _whole(
    environ: Mapping[str, str], name: str, default: int, *, least: int = 0, most: int = _LARGEST
) -> int:
    text = (environ.get(name) or "").strip()
    if not text:
        return default
    digits = text.lstrip("0") or "0"
    # int() refuses thousands of digits in its own way; none of them can be meant.
    plain = text.isascii() and text.isdigit() and len(digits) <= len(str(most))
    if not plain or not least <= int(digits) <= most:
        problem = f"{text!r} is not a whole number from {least} to {most}"
        raise BadInput(name, problem, accepted=str(default))
    return int(digits)
