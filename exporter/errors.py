"""Every error that the program raises on purpose, and the exit code of each.

One root class, :class:`ExporterError`. An error says in one sentence what happened to which
thing, and its hint says the way out; the command line prints both on one line and nothing else.
Facts are also fields, so that callers and tests never parse text.

No text here may hold a password: whatever names a database goes through :func:`place_of`, and
whatever a server or driver said is either one of our own words or checked by the caller.
This module imports nothing of the project.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the process returns to its caller; the numbers are an interface."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    #: Done, and something was found: quarantined rows, contract differences.
    FINDINGS = 3
    CURSOR_RESET = 4
    LEASE_HELD = 5
    SIGINT = 130
    SIGTERM = 143


class ExporterError(Exception):
    """Root of all errors raised on purpose.

    ``message`` is a clause without a full stop; ``hint`` is what to do about it, or empty.
    """

    #: Stable name for machines and for docs/errors.md.
    code: ClassVar[str] = "failed"
    exit_code: ExitCode = ExitCode.FAILED
    #: True when the same call may succeed later with nothing changed by the caller.
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


# --- Wrong usage and input ------------------------------------------------------------------


class BadInput(ExporterError):
    """An option, variable or input value that cannot be meant."""

    code = "bad_input"
    exit_code = ExitCode.USAGE

    def __init__(self, name: str, problem: str, *, accepted: str) -> None:
        """``name`` is the option or variable, ``accepted`` shows a value that would do."""
        self.name = name
        self.accepted = accepted
        super().__init__(f"{name}: {problem}", hint=f"accepted: {accepted}")


class SourceNotRecognised(ExporterError):
    """The file, folder or database given as a source is not what the command reads."""

    code = "source_not_recognised"

    def __init__(self, source: str, found: str, *, wanted: str) -> None:
        self.source = source
        self.found = found
        self.wanted = wanted
        super().__init__(f"{source} is {found}", hint=f"this command reads {wanted}")


class SourceUnreadable(ExporterError):
    """The source exists by name but cannot be opened or read."""

    code = "source_unreadable"

    def __init__(self, source: str, problem: str, *, hint: str = "check the path and its rights"):
        self.source = source
        super().__init__(f"{source} cannot be read ({problem})", hint=hint)


class OutputFailed(ExporterError):
    """A file or stream that the command writes could not be written."""

    code = "output_failed"

    def __init__(self, target: str, problem: str) -> None:
        self.target = target
        super().__init__(
            f"{target} cannot be written ({problem})", hint="free space or choose another place"
        )


class ContractViolation(ExporterError):
    """A document that we made does not fit its own published schema; nothing was written."""

    code = "contract_violation"

    def __init__(self, surface: str, problem: str) -> None:
        self.surface = surface
        super().__init__(
            f"a document does not fit {surface}: {problem}",
            hint="this is a defect of the program, please report it",
        )


class ObjectStoreError(ExporterError):
    """The object store refused; nothing was changed, and trying again as it is will not help."""

    code = "object_store_failed"

    def __init__(self, place: str, problem: str, *, hint: str = "") -> None:
        """``place`` has no credentials in it; ``problem`` is one of our own phrases."""
        self.place = place
        self.problem = problem
        super().__init__(
            f"the object store {place} cannot be used ({problem})",
            hint=hint or "check --blob-url or EXPORTER_BLOB_URL and the store's rights",
        )


class ObjectStoreUnavailable(ObjectStoreError):
    """The object store lacks room or does not answer; nothing was changed."""

    code = "object_store_unavailable"
    retryable = True

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem, hint="make it available and run the same command again")


# --- The database ---------------------------------------------------------------------------


class DatabaseError(ExporterError):
    """The server refused or failed a statement; ``sqlstate`` says why."""

    code = "database_failed"

    def __init__(self, message: str, *, sqlstate: str | None = None, hint: str = "") -> None:
        self.sqlstate = sqlstate
        super().__init__(message, hint=hint)


class DatabaseBusy(DatabaseError):
    """A lock, a deadlock or a lack of connections: the same call may succeed later."""

    code = "database_busy"
    retryable = True


class ServerUnreachable(DatabaseError):
    """No PostgreSQL server answers at the address, or the connection broke."""

    code = "server_unreachable"
    retryable = True

    def __init__(self, place: str, reason: str, *, sqlstate: str | None = None) -> None:
        """``place`` comes from :func:`place_of`; ``reason`` is one of our own phrases."""
        self.place = place
        self.reason = reason
        super().__init__(
            f"{place} does not answer ({reason})",
            sqlstate=sqlstate,
            hint="start that server or check --database-url or EXPORTER_DATABASE_URL",
        )


class WrongPassword(DatabaseError):
    """The server refused the user's credentials."""

    code = "wrong_password"

    def __init__(self, place: str, reason: str, *, sqlstate: str | None = "28P01") -> None:
        self.place = place
        super().__init__(
            f"{place} refused the login ({reason})",
            sqlstate=sqlstate,
            hint="check the user and password in the database URL or in ~/.pgpass",
        )


class DatabaseMissing(DatabaseError):
    """The server answers but has no database of that name."""

    code = "database_missing"

    def __init__(self, place: str) -> None:
        self.place = place
        super().__init__(
            f"the server has no such database: {place}",
            sqlstate="3D000",
            hint="create it with createdb, or correct the database URL",
        )


class MissingRights(DatabaseError):
    """The role may not do what the command needs."""

    code = "missing_rights"

    def __init__(self, what: str) -> None:
        """``what`` is the server's phrase, such as "permission denied for schema exporter"."""
        super().__init__(
            f"the database role lacks a right ({what})",
            sqlstate="42501",
            hint="grant it with 'exporter db grants', or connect as a role that has it",
        )


class ServerUnsupported(DatabaseError):
    """The server is too old, or its database is not in UTF-8."""

    code = "server_unsupported"

    def __init__(self, problem: str) -> None:
        super().__init__(problem, hint="use a UTF-8 database on PostgreSQL 14 or newer")


class NotAtHead(DatabaseError):
    """The schema is older than the program, or absent."""

    code = "not_at_head"

    def __init__(self, found: str | None, head: str) -> None:
        """``found`` is the revision in the database; None when there is no schema."""
        self.found = found
        self.head = head
        state = f"is at revision {found}, not {head}" if found else "has no exporter tables yet"
        super().__init__(f"the database {state}", hint="run 'exporter db upgrade'")


class DatabaseNewer(DatabaseError):
    """The schema was made by a newer program."""

    code = "database_newer"

    def __init__(self, found: str, head: str) -> None:
        self.found = found
        self.head = head
        super().__init__(
            f"the database is at revision {found}, newer than this program (it knows up to {head})",
            hint="upgrade the exporter package",
        )


# --- The embedded server --------------------------------------------------------------------


class FolderNotWritable(ExporterError):
    """The folder for the embedded server's data cannot be used."""

    code = "folder_not_writable"

    def __init__(self, folder: str, problem: str, *, hint: str = "") -> None:
        self.folder = folder
        super().__init__(
            f"the data folder {folder} cannot be used ({problem})",
            hint=hint
            or "set EXPORTER_HOME to a folder that you own, or EXPORTER_DATABASE_URL to a server",
        )


class DataFolderVersion(ExporterError):
    """The data folder belongs to another PostgreSQL major version."""

    code = "data_folder_version"

    def __init__(self, folder: str, found: str, wanted: int) -> None:
        self.folder = folder
        self.found = found
        self.wanted = wanted
        super().__init__(
            f"the data folder {folder} was made by PostgreSQL {found}, this program runs {wanted}",
            hint=f"bring it over with pg_upgrade or with pg_dump of PostgreSQL {found},"
            " or set EXPORTER_HOME to a new folder and import again",
        )


class ServerStartFailed(ExporterError):
    """The embedded server did not come up."""

    code = "server_start_failed"

    def __init__(self, problem: str, *, log: str = "") -> None:
        self.log = log
        hint = f"its log is {log}" if log else "set EXPORTER_DATABASE_URL to use another server"
        if "No space left on device" in problem:
            hint = "free space there and run again"
        super().__init__(f"the embedded PostgreSQL server did not start ({problem})", hint=hint)


# --- Runs -----------------------------------------------------------------------------------


class CursorReset(ExporterError):
    """The page cursor no longer fits the archive; the export must restart."""

    code = "cursor_reset"
    exit_code = ExitCode.CURSOR_RESET

    def __init__(self, database_id: str) -> None:
        """``database_id`` is that of the archive being read now."""
        self.database_id = database_id
        super().__init__("session export cursor is no longer valid; restart the export")

    def as_json(self) -> dict[str, str]:
        """The object of the contract, keys in its order; the command line prints it on stderr."""
        return {"error": self.code, "message": self.message, "database_id": self.database_id}


class LeaseHeld(ExporterError):
    """Another run holds the lease on the same work."""

    code = "lease_held"
    exit_code = ExitCode.LEASE_HELD
    retryable = True

    def __init__(self, work: str, holder: str) -> None:
        self.work = work
        self.holder = holder
        super().__init__(
            f"{work} is being done by another run ({holder})",
            hint="wait for it, or see 'exporter jobs status'",
        )


class Interrupted(ExporterError):
    """The run was stopped by a signal after a clean checkpoint."""

    code = "interrupted"
    retryable = True

    def __init__(self, signal_name: str = "SIGINT") -> None:
        """``signal_name`` is SIGINT or SIGTERM."""
        self.signal_name = signal_name
        self.exit_code = ExitCode[signal_name]
        super().__init__(f"stopped by {signal_name}", hint="run the same command again to continue")


# --- Naming a database without its secrets --------------------------------------------------

#: Connection settings that name a place and can never be a secret.
_PUBLIC_KEYS = ("host", "hostaddr", "port", "dbname", "user", "service", "sslmode")
_PLAIN = re.compile(r"[\w.%~+\-]*\Z", re.ASCII)
#: Hosts with their ports; a "port" that is no number may be the password of a URL without host.
_HOST = r"(?:[\w.%~+\-]*|\[[0-9A-Fa-f:.%\w]*\])(?::[0-9]{0,5})?"
_PLAIN_HOST = re.compile(rf"{_HOST}(?:,{_HOST})*\Z", re.ASCII)
_PAIR = re.compile(r"(\w+)\s*=\s*('(?:\\.|[^'\\])*'|[^\s']*)(?=\s|\Z)")


def place_of(url: str) -> str:
    """Render a database URL (or "key=value" text) with nothing in it that could be a secret.

    Only parts known to name a place are kept, so a password with stray ``@``, ``/`` or ``?``
    in it cannot slip through; what cannot be told apart is left out.
    """
    scheme, found, rest = url.partition("://")
    if found:
        return _place_of_url(scheme, rest)
    if url.count("'") % 2:
        return "the given database"
    pairs = [f"{key}={value}" for key, value in _PAIR.findall(url) if key in _PUBLIC_KEYS]
    return " ".join(pairs) or "the given database"


def _place_of_url(scheme: str, rest: str) -> str:
    user_info, at, tail = rest.rpartition("@")
    if "?" in user_info:
        # Either side of the "@" may be part of a password; libpq and people read it differently.
        return "the given database"
    user = user_info.partition(":")[0]
    if not _PLAIN.match(user):
        user = "***"
    location, _, query = tail.partition("?")
    host, slash, database = location.partition("/")
    host = host if _PLAIN_HOST.match(host) else "***"
    database = database if _PLAIN.match(database) else "***"
    scheme = scheme if _PLAIN.match(scheme) else "***"
    kept = [
        f"{key}={value}"
        for key, _, value in (pair.partition("=") for pair in query.split("&"))
        if key in _PUBLIC_KEYS
    ]
    suffix = "?" + "&".join(kept) if kept else ""
    return f"{scheme}://{user}{at and '@'}{host}{slash}{database}{suffix}"
