"""Surgery on run snapshots: take the internal log out of a zip archive, leave the rest alone.

The archive is one buffer of raw bytes. The steps build on each other, and each may refuse:

1. `inspect` walks the directory and decides what every byte is. Nothing is inflated.
2. `check_members` inflates everything but the log, to find what names do not show.
3. `LogReader` streams the log, checked against its size and checksum.
4. `conclude` gives the outcome, `sanitised` the new archive, `originals` what to keep beside it,
   `gzip_frame` the log's packed bytes as a gzip file.

`classify`, `sanitise` and `verify` are whole answers for callers that need only one. `salvage`
reads what it can of an archive that lost its end, `LogUsage` sums up a log whose overview is lost.
Memory on top of the source is chunks of a few hundred KiB, and about a KiB per member.
"""

from __future__ import annotations

from exporter.core.runzip.codes import (
    LIMITS,
    Limits,
    Note,
    NoteKind,
    Outcome,
    Reason,
    Refusal,
)
from exporter.core.runzip.inflate import BrokenStream, gunzip
from exporter.core.runzip.layout import Archive, Buffer, Member, Role, inspect
from exporter.core.runzip.log import (
    GZIP_HEADER,
    LogFacts,
    LogReader,
    Original,
    deflated_at,
    gzip_frame,
    originals,
)
from exporter.core.runzip.logtext import LogText
from exporter.core.runzip.members import MemberReport, Tick, check_members, read_member
from exporter.core.runzip.names import LogRank, log_rank
from exporter.core.runzip.overview import Json, parse_overview
from exporter.core.runzip.rewrite import is_unchanged, sanitised
from exporter.core.runzip.salvage import Salvaged, salvage
from exporter.core.runzip.usage import LogUsage
from exporter.core.runzip.verdict import (
    Verdict,
    classify,
    conclude,
    sanitise,
    verify,
    verify_rewritten,
)

__all__ = [
    "GZIP_HEADER",
    "LIMITS",
    "Archive",
    "BrokenStream",
    "Buffer",
    "Json",
    "Limits",
    "LogFacts",
    "LogRank",
    "LogReader",
    "LogText",
    "LogUsage",
    "Member",
    "MemberReport",
    "Note",
    "NoteKind",
    "Original",
    "Outcome",
    "Reason",
    "Refusal",
    "Role",
    "Salvaged",
    "Tick",
    "Verdict",
    "check_members",
    "classify",
    "conclude",
    "deflated_at",
    "gunzip",
    "gzip_frame",
    "inspect",
    "is_unchanged",
    "log_rank",
    "originals",
    "parse_overview",
    "read_member",
    "salvage",
    "sanitise",
    "sanitised",
    "verify",
    "verify_rewritten",
]
