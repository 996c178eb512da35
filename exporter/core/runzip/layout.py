"""Inspection: from raw bytes to an archive whose every byte is accounted for.

Nothing is inflated here. What the directory lists must lie side by side in the file; what lies
between, before and behind is named in a note and left out of the rewritten archive. Anything
that two programs could read differently is refused.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import chain
from typing import TypeAlias

from exporter.core.runzip import extras
from exporter.core.runzip.codes import LIMITS, Limits, Note, NoteKind, Reason, Refusal
from exporter.core.runzip.directory import (
    DESCRIPTOR,
    ENCRYPTED,
    EndRecord,
    Entry,
    find_end,
    read_entries,
)
from exporter.core.runzip.names import (
    LogRank,
    depth,
    is_bad,
    is_overview,
    is_unsafe,
    log_rank,
    path_text,
    until_nul,
)
from exporter.core.runzip.scan import HeaderSearch

__all__ = ["Archive", "Buffer", "Member", "Role", "inspect"]

Buffer: TypeAlias = bytes | bytearray | memoryview

STORED, DEFLATED, BZIP2, LZMA = 0, 8, 12, 14
SUPPORTED = frozenset({STORED, DEFLATED, BZIP2, LZMA})

_UNIX_LIKE = frozenset({3, 19})
_REPARSE_POINT = 0x400


class Role(Enum):
    """Why a member stays in the archive or leaves it."""

    KEPT = auto()
    #: Named like the log: the log itself, a further copy, or a worker's fallback log.
    LOG = auto()
    #: Sensitive by its place or kind, yet not a log file: a reserved directory and what is in
    #: it, a link with the log's name.
    RESERVED = auto()
    #: A symbolic link or another special file.
    LINK = auto()
    #: A name that could leave the folder it is unpacked into, or that names no file.
    UNSAFE = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One listed member: where its bytes lie (`entry`) and what becomes of it (`role`)."""

    entry: Entry
    role: Role
    #: The name up to its first NUL byte: what the rewritten archive calls the member.
    key: bytes
    rank: LogRank | None = None

    @property
    def index(self) -> int:
        """Position in the directory, from 0."""
        return self.entry.index

    @property
    def path(self) -> str:
        """The name as printable text, for a ledger. May be cut."""
        return path_text(self.entry.name, 4_096)

    @property
    def is_directory(self) -> bool:
        """Whether the name says so."""
        return self.key.endswith(b"/")

    @property
    def is_supported(self) -> bool:
        """Whether the plain bytes can be produced at all: no password, known method."""
        return not self.entry.is_encrypted and self.entry.central.method in SUPPORTED


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """An archive that passed inspection.

    `members` are in directory order. `log` is the member whose bytes are the run's log,
    `extra_logs` are further files with a sensitive name. `notes` hold what inspection found.
    """

    view: memoryview = field(repr=False)
    end: EndRecord
    members: tuple[Member, ...] = field(repr=False)
    log: Member | None
    extra_logs: tuple[Member, ...]
    overview: Member | None
    notes: tuple[Note, ...]
    limits: Limits

    @property
    def kept(self) -> list[Member]:
        """The members of the rewritten archive, in directory order."""
        return [member for member in self.members if member.role is Role.KEPT]

    @property
    def is_sensitive(self) -> bool:
        """Whether any member could be the log."""
        return any(member.role in (Role.LOG, Role.RESERVED) for member in self.members)


def inspect(data: Buffer, limits: Limits = LIMITS) -> Archive:
    """Check an archive's structure and decide what becomes of each member.

    `data` is the whole archive; it is not copied and must not change while the result is in
    use. Takes time with the number of members and the size of the kept data, not of the log.

    Raises `Refusal` with any of the ZIP_ reasons, LOG_ENCRYPTED, LOG_METHOD, NESTED_ARCHIVE
    (for a member stored without compression), or NO_SOURCE for zero bytes.
    """
    view = memoryview(data).cast("B").toreadonly()
    if not view:
        raise Refusal(Reason.NO_SOURCE)
    if len(view) > limits.archive_bytes:
        raise Refusal(Reason.ZIP_BOMB, {"bytes": len(view), "limit": limits.archive_bytes})
    end = find_end(view)
    entries = read_entries(view, end, limits)
    gaps = list(_gaps(entries, end))
    members = tuple(_judge(entry) for entry in entries)
    log, extra_logs = _choose_log(members)
    notes = chain(
        _search_strays(view, end, members, gaps, limits),
        _outer_notes(view, end, gaps, members),
        _member_notes(members),
        _log_notes(log, extra_logs),
    )
    unique = tuple(dict.fromkeys(notes))
    overview = _choose_overview(members)
    return Archive(view, end, members, log, extra_logs, overview, unique, limits)


def _gaps(entries: Sequence[Entry], end: EndRecord) -> Iterator[tuple[int, int]]:
    """Yield the bytes in front of the directory that belong to no member.

    Raises `Refusal` (ZIP_OVERLAP) for members that share bytes.
    """
    at = 0
    for entry in sorted(entries, key=lambda entry: entry.header_at):
        if entry.header_at < at:
            facts = {"member": entry.index, "shared_bytes": at - entry.header_at}
            raise Refusal(Reason.ZIP_OVERLAP, facts)
        if entry.header_at > at:
            yield at, entry.header_at
        at = entry.end_at
    if at < end.start:
        yield at, end.start


def _judge(entry: Entry) -> Member:
    """Compare the two headers of a member and give it its role."""
    _check_header(entry)
    name, others = entry.name, _second_names(entry)
    rank, key = log_rank(name), until_nul(name)
    if rank is None and any(log_rank(other) is not None for other in others):
        # Only the second name is the log's: readers disagree about which file this is.
        raise Refusal(Reason.ZIP_HEADER_MISMATCH, {"member": entry.index})
    if rank is not None:
        is_file = rank is not LogRank.RESERVED and not _is_special(entry)
        return _checked_log(Member(entry, Role.LOG if is_file else Role.RESERVED, key, rank))
    if _is_special(entry):
        return Member(entry, Role.LINK, key)
    if any(is_unsafe(each) for each in (name, *others)):
        return Member(entry, Role.UNSAFE, key)
    return Member(entry, Role.KEPT, key)


def _check_header(entry: Entry) -> None:
    """Raise `Refusal` when the member's own header contradicts the directory.

    The checksum may differ: the directory's is the one that counts, and a wrong one is found
    when the data is read.
    """
    local, central = entry.local, entry.central
    differing = local.method != central.method or (local.flags ^ central.flags) & ENCRYPTED
    if differing or entry.local_name != entry.name:
        raise Refusal(Reason.ZIP_HEADER_MISMATCH, {"member": entry.index})
    plain_size, packed_size, _ = extras.widened(
        extras.parse(entry.local_extra)[0], (local.plain_size, local.packed_size)
    )
    # A streaming writer leaves the sizes open: they follow the data.
    unknown = (0, 0xFFFFFFFF) if (local.flags | central.flags) & DESCRIPTOR else ()
    for here, listed in ((plain_size, entry.plain_size), (packed_size, entry.packed_size)):
        if here != listed and here not in unknown:
            facts = {"member": entry.index, "declared_bytes": listed, "header_bytes": here}
            raise Refusal(Reason.ZIP_SIZE_LIE, facts)


def _second_names(entry: Entry) -> list[bytes]:
    names = (extras.second_name(extras.parse(block)[0]) for block in _extra_blocks(entry))
    return [name for name in names if name is not None]


def _extra_blocks(entry: Entry) -> list[bytes]:
    """Return the extra blocks of both headers, without empty ones."""
    return [block for block in (entry.extra, entry.local_extra) if block]


def _is_special(entry: Entry) -> bool:
    attributes, system = entry.central.external, entry.central.made_by >> 8
    if stat.S_IFMT(attributes >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return True
    return system not in _UNIX_LIKE and bool(attributes & _REPARSE_POINT)


def _checked_log(member: Member) -> Member:
    if member.role is Role.LOG and member.entry.is_encrypted:
        raise Refusal(Reason.LOG_ENCRYPTED, {"method": member.entry.central.method})
    if member.role is Role.LOG and not member.is_supported:
        raise Refusal(Reason.LOG_METHOD, {"method": member.entry.central.method})
    return member


def _choose_log(members: Sequence[Member]) -> tuple[Member | None, tuple[Member, ...]]:
    """Return the primary log and the other log files, in directory order.

    Lowest depth comes first, then byte order, and of several entries at one path the last.
    """
    logs = [member for member in members if member.role is Role.LOG]
    if not logs:
        return None, ()
    log = min(logs, key=lambda m: (m.rank, depth(m.key), m.key, -m.index))
    return log, tuple(member for member in logs if member is not log)


def _choose_overview(members: Sequence[Member]) -> Member | None:
    found = [
        member
        for member in members
        if member.role is Role.KEPT and is_overview(member.key) and not member.is_directory
    ]
    return min(found, key=lambda m: (depth(m.key), m.key, -m.index), default=None)


def _search_strays(
    view: memoryview,
    end: EndRecord,
    members: Sequence[Member],
    gaps: Sequence[tuple[int, int]],
    limits: Limits,
) -> Iterator[Note]:
    """Look for headers outside the directory: in gaps, in kept data, behind the end.

    Data that leaves the archive is not searched. Raises `Refusal`: ZIP_HIDDEN_ENTRY or
    NESTED_ARCHIVE when a header names the log, ZIP_TRUNCATED when headers follow the end record,
    because the record then belongs to something inside the archive.
    """
    search = HeaderSearch(limits.stray_headers)
    for start, stop in gaps:
        for header in search.between(view, start, stop):
            if header.names_log:
                raise Refusal(Reason.ZIP_HIDDEN_ENTRY, {"at": header.at})
            yield Note(NoteKind.HIDDEN_ENTRY)
    for header in search.between(view, end.stop, len(view)):
        reason = Reason.ZIP_HIDDEN_ENTRY if header.names_log else Reason.ZIP_TRUNCATED
        raise Refusal(reason, {"at": header.at})
    for member in members:
        if member.role is not Role.KEPT:
            continue
        for header in search.between(view, member.entry.data_at, member.entry.data_end):
            if header.names_log:
                raise Refusal(Reason.NESTED_ARCHIVE, {"member": member.index})


def _outer_notes(
    view: memoryview,
    end: EndRecord,
    gaps: Sequence[tuple[int, int]],
    members: Sequence[Member],
) -> Iterator[Note]:
    for start, _ in gaps:
        yield Note(NoteKind.GAP_BYTES if start else NoteKind.PREFIX_BYTES)
    if end.end < len(view):
        yield Note(NoteKind.TRAILING_BYTES)
    if end.comment_size or any(member.entry.central.comment_size for member in members):
        yield Note(NoteKind.COMMENT_DROPPED)
    if not members:
        yield Note(NoteKind.EMPTY)


def _member_notes(members: Sequence[Member]) -> Iterator[Note]:
    seen: set[bytes] = set()
    for member in members:
        entry, name = member.entry, member.entry.name
        if is_bad(name):
            yield Note(NoteKind.BAD_NAME)
        if is_unsafe(name) or member.role is Role.UNSAFE:
            yield Note(NoteKind.UNSAFE_NAME)
        if _is_special(entry):
            yield Note(NoteKind.SYMLINK)
        if member.key in seen:
            yield Note(NoteKind.DUPLICATE_NAME)
        seen.add(member.key)
        if entry.is_encrypted:
            yield Note(NoteKind.MEMBER_ENCRYPTED)
        elif not member.is_supported:
            yield Note(NoteKind.MEMBER_METHOD, str(entry.central.method))
        if member.role is Role.KEPT and not _keeps_extras(member):
            yield Note(NoteKind.EXTRA_DROPPED)


def _keeps_extras(member: Member) -> bool:
    """Tell whether the rewritten headers carry every extra field but zip64's."""
    for block in _extra_blocks(member.entry):
        fields, is_whole = extras.parse(block)
        others = [each for each in fields if each.tag != extras.ZIP64]
        if not is_whole or extras.safe_fields(fields, member.key) != others:
            return False
    return True


def _log_notes(log: Member | None, extra_logs: Sequence[Member]) -> Iterator[Note]:
    if log is not None and any(member.key != log.key for member in extra_logs):
        yield Note(NoteKind.MULTI_LOG)
