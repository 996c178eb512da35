"""The words of the module: outcomes, reason codes, notes, limits, and the one refusal.

A row that was processed carries notes, a row that was refused carries one reason. Both are
stored and counted by others, so the spellings are an interface and never change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["LIMITS", "Limits", "Note", "NoteKind", "Outcome", "Reason", "Refusal"]

_MIB = 1024 * 1024


class Outcome(StrEnum):
    """What became of one row. The two last belong to the job; an archive never causes them."""

    MIGRATED = "MIGRATED"
    CLEAN = "CLEAN"
    SKIPPED_NO_SOURCE = "SKIPPED_NO_SOURCE"
    QUARANTINED = "QUARANTINED"
    SKIPPED_BUSY = "SKIPPED_BUSY"
    SKIPPED_CHANGED = "SKIPPED_CHANGED"


class Reason(StrEnum):
    """Why bytes were refused, in three groups (see the comments)."""

    # Reasons for quarantine. LOG_METHOD is written with the method's number: LOG_METHOD_99.
    ZIP_NOT_ZIP = "ZIP_NOT_ZIP"
    ZIP_TRUNCATED = "ZIP_TRUNCATED"
    ZIP_CD_MISMATCH = "ZIP_CD_MISMATCH"
    ZIP_HEADER_MISMATCH = "ZIP_HEADER_MISMATCH"
    ZIP_OVERLAP = "ZIP_OVERLAP"
    ZIP_HIDDEN_ENTRY = "ZIP_HIDDEN_ENTRY"
    ZIP_SIZE_LIE = "ZIP_SIZE_LIE"
    ZIP_BOMB = "ZIP_BOMB"
    NESTED_ARCHIVE = "NESTED_ARCHIVE"
    LOG_CORRUPT = "LOG_CORRUPT"
    LOG_ENCRYPTED = "LOG_ENCRYPTED"
    LOG_METHOD = "LOG_METHOD"
    LOG_TOO_LARGE = "LOG_TOO_LARGE"
    #: Given by the job, when PostgreSQL refuses what this module accepted.
    DB_REJECTED = "DB_REJECTED"
    #: Given by the job, when a reference to another log would be lost.
    LOG_STANDS = "LOG_STANDS"

    # One member cannot be read. The archive as a whole stays acceptable.
    MEMBER_CORRUPT = "MEMBER_CORRUPT"
    MEMBER_ENCRYPTED = "MEMBER_ENCRYPTED"
    MEMBER_METHOD = "MEMBER_METHOD"

    # Only from `verify`, which looks at bytes that are about to be served unchanged.
    LOG_PRESENT = "LOG_PRESENT"
    EXTRANEOUS_BYTES = "EXTRANEOUS_BYTES"

    #: Zero bytes. Not a quarantine: there is nothing to process.
    NO_SOURCE = "NO_SOURCE"


_SENTENCES = {
    Reason.ZIP_NOT_ZIP: "the bytes hold neither a member header nor an end record",
    Reason.ZIP_TRUNCATED: "the end record is missing, cut, or too far from the end",
    Reason.ZIP_CD_MISMATCH: "the end record and the directory disagree",
    Reason.ZIP_HEADER_MISMATCH: "a member's own header disagrees with the directory",
    Reason.ZIP_OVERLAP: "two members, or a member and the directory, share bytes",
    Reason.ZIP_HIDDEN_ENTRY: "the log stands in bytes that no directory entry covers",
    Reason.ZIP_SIZE_LIE: "a declared size disagrees with the data or with its second spelling",
    Reason.ZIP_BOMB: "a limit on size, count or ratio was exceeded",
    Reason.NESTED_ARCHIVE: "a member is or contains an archive that lists the log",
    Reason.LOG_CORRUPT: "the log's compressed stream is broken or its checksum is wrong",
    Reason.LOG_ENCRYPTED: "the log is encrypted",
    Reason.LOG_METHOD: "the log is compressed by an unsupported method",
    Reason.LOG_TOO_LARGE: "the log is larger than the limit for one member",
    Reason.DB_REJECTED: "the database rejected the row",
    Reason.LOG_STANDS: "the row refers to another log already",
    Reason.MEMBER_CORRUPT: "the member's stream is broken or its checksum is wrong",
    Reason.MEMBER_ENCRYPTED: "the member is encrypted",
    Reason.MEMBER_METHOD: "the member is compressed by an unsupported method",
    Reason.LOG_PRESENT: "a member could be the log",
    Reason.EXTRANEOUS_BYTES: "bytes stand outside every member and the directory",
    Reason.NO_SOURCE: "there are no bytes",
}


class Refusal(Exception):
    """The archive, or one member of it, cannot be accepted.

    `reason` is the family, `code` the stored spelling. `facts` holds sizes, counts and method
    numbers under fixed keys, and never a name or content, so all three are safe to log.
    """

    def __init__(self, reason: Reason, facts: Mapping[str, int] | None = None) -> None:
        # Positional arguments only, so that a refusal survives the trip between processes.
        super().__init__(reason, dict(facts or {}))
        self.reason = reason
        self.facts: dict[str, int] = dict(facts or {})

    @property
    def code(self) -> str:
        """The stored spelling, for example ``LOG_METHOD_99``."""
        if self.reason in (Reason.LOG_METHOD, Reason.MEMBER_METHOD):
            return f"{self.reason}_{self.facts['method']}"
        return str(self.reason)

    @property
    def outcome(self) -> Outcome:
        """What the refusal means for the row."""
        if self.reason is Reason.NO_SOURCE:
            return Outcome.SKIPPED_NO_SOURCE
        return Outcome.QUARANTINED

    def __str__(self) -> str:
        facts = ", ".join(f"{key}={value}" for key, value in self.facts.items())
        return f"{self.code}: {_SENTENCES[self.reason]}" + (f" ({facts})" if facts else "")


class NoteKind(StrEnum):
    """A remark on an archive that was accepted."""

    EMPTY = "EMPTY"
    DUPLICATE_NAME = "DUPLICATE_NAME"
    MULTI_LOG = "MULTI_LOG"
    LOG_TEXT_LOSSY = "LOG_TEXT_LOSSY"
    OVERVIEW_INVALID = "OVERVIEW_INVALID"
    MEMBER_CORRUPT = "MEMBER_CORRUPT"
    MEMBER_ENCRYPTED = "MEMBER_ENCRYPTED"
    MEMBER_METHOD = "MEMBER_METHOD"
    UNSAFE_NAME = "UNSAFE_NAME"
    BAD_NAME = "BAD_NAME"
    SYMLINK = "SYMLINK"
    PREFIX_BYTES = "PREFIX_BYTES"
    GAP_BYTES = "GAP_BYTES"
    TRAILING_BYTES = "TRAILING_BYTES"
    HIDDEN_ENTRY = "HIDDEN_ENTRY"
    COMMENT_DROPPED = "COMMENT_DROPPED"
    EXTRA_DROPPED = "EXTRA_DROPPED"


@dataclass(frozen=True, slots=True, order=True)
class Note:
    """One remark. `detail` is the path after ``MEMBER_CORRUPT:``, the number of a method, or "".

    The path is the only place where the module lets a name out, and only of a member that is
    not the log; it is escaped to printable characters and cut.
    """

    kind: NoteKind
    detail: str = ""

    @property
    def code(self) -> str:
        """The stored spelling, for example ``MEMBER_CORRUPT:notes/a.txt``."""
        if not self.detail:
            return str(self.kind)
        joint = ":" if self.kind is NoteKind.MEMBER_CORRUPT else "_"
        return f"{self.kind}{joint}{self.detail}"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one archive; sizes in bytes. Output is measured, declared sizes are not trusted."""

    archive_bytes: int = 512 * _MIB
    members: int = 20_000
    name_bytes: int = 4_096
    member_bytes: int = 1_024 * _MIB
    total_bytes: int = 4_096 * _MIB
    #: Largest plain : packed ratio, checked once a member's output exceeds `ratio_floor_bytes`.
    ratio: int = 250
    ratio_floor_bytes: int = 32 * _MIB
    #: Decoder window that an LZMA member may ask for; it is allocated before any output.
    window_bytes: int = 64 * _MIB
    #: `MEMBER_CORRUPT` notes that carry a path; more are counted, not named.
    noted_paths: int = 100
    overview_bytes: int = _MIB
    overview_levels: int = 64
    overview_models: int = 2_000

    @property
    def stray_headers(self) -> int:
        """Header signatures looked at outside the directory before the search gives up."""
        return 4 * self.members


LIMITS = Limits()
