"""Reading members: plain bytes that are checked while they pass, and the checks of all members.

A stream is only as good as its end: size and checksum are known when the last byte is out. So
every reader here raises at the end rather than hand out a verdict, and whoever stores the
chunks must be ready to throw them away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from isal import isal_zlib

from exporter.core.runzip.codes import Limits, Note, NoteKind, Reason, Refusal
from exporter.core.runzip.inflate import BrokenStream, plain_chunks
from exporter.core.runzip.layout import Archive, Member, Role
from exporter.core.runzip.names import path_text
from exporter.core.runzip.overview import Json, parse_overview
from exporter.core.runzip.scan import HeaderSearch, LogInStream

__all__ = ["MemberReport", "Tick", "check_members", "read_member"]

#: Called with the number of plain bytes just produced; may raise to stop the work.
Tick = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class MemberReport:
    """What reading every member but the log found.

    `overview` is the object to store, or None. `invalid_overview` is the member that was not
    acceptable as one. `unreadable` holds the indexes of members whose plain bytes cannot be
    produced, `corrupt` counts those with a fault. `plain_bytes` is what all members produced,
    which counts towards the limit on the total when the log is read.
    """

    overview: dict[str, Json] | None = None
    invalid_overview: Member | None = None
    unreadable: frozenset[int] = frozenset()
    corrupt: int = 0
    plain_bytes: int = 0
    notes: tuple[Note, ...] = ()


def read_member(
    archive: Archive, member: Member, *, spent: int = 0, tick: Tick | None = None,
    watch: Callable[[bytes], None] | None = None, is_strict: bool = False,
) -> Iterator[bytes]:  # fmt: skip
    """Yield the plain bytes of one member in chunks of at most 256 KiB.

    `spent` is what other members already produced, for the limit on the total. `watch` is given
    every chunk, also those behind the declared size, which are not handed on. `is_strict` finds a
    stream broken that zlib does not take, and with it most programs.

    Raises `Refusal`, for a log with the LOG_ reason of the same meaning: MEMBER_ENCRYPTED,
    MEMBER_METHOD, MEMBER_CORRUPT, ZIP_SIZE_LIE when the data goes on behind a declared size at
    which the checksum is right, ZIP_BOMB, LOG_TOO_LARGE.
    """
    entry = member.entry
    if not member.is_supported:
        encrypted = entry.is_encrypted
        reason = Reason.MEMBER_ENCRYPTED if encrypted else Reason.MEMBER_METHOD
        raise Refusal(reason, {"method": entry.central.method})
    meter = _Meter(archive.limits, member, spent)
    chunks = plain_chunks(
        entry.central.method,
        entry.central.flags,
        entry.packed,
        entry.plain_size,
        archive.limits.window_bytes,
        is_strict=is_strict,
    )
    try:
        for chunk in chunks:
            meter.take(chunk)
            if tick is not None:
                tick(len(chunk))
            if watch is not None:
                watch(chunk)
            if not meter.is_overrun:
                yield chunk
    except BrokenStream as error:
        raise meter.corrupt() from error
    meter.finish()


@dataclass(slots=True)
class _Meter:
    """Size, checksum and limits of one member while its bytes pass."""

    limits: Limits
    member: Member
    spent: int
    produced: int = 0
    crc: int = 0
    #: More came out than was declared. The rest is only measured, never handed on.
    is_overrun: bool = False

    def take(self, chunk: bytes) -> None:
        declared = self.member.entry.plain_size
        room = max(0, declared - self.produced)
        self.produced += len(chunk)
        self._check_limits()
        if not self.is_overrun:
            self.crc = isal_zlib.crc32(memoryview(chunk)[:room], self.crc)
            self.is_overrun = self.produced > declared
            if self.is_overrun and self.crc == self.member.entry.central.crc:
                facts = {"member": self.member.index, "declared_bytes": declared}
                raise Refusal(Reason.ZIP_SIZE_LIE, facts)

    def finish(self) -> None:
        entry = self.member.entry
        if self.produced != entry.plain_size or self.crc != entry.central.crc:
            raise self.corrupt()

    def corrupt(self) -> Refusal:
        is_log = self.member.role is Role.LOG
        facts = {
            "member": self.member.index,
            "declared_bytes": self.member.entry.plain_size,
            "plain_bytes": self.produced,
        }
        return Refusal(Reason.LOG_CORRUPT if is_log else Reason.MEMBER_CORRUPT, facts)

    def _check_limits(self) -> None:
        limits, packed_size = self.limits, self.member.entry.packed_size
        is_large = self.produced > limits.ratio_floor_bytes
        if is_large and self.produced > limits.ratio * packed_size:
            raise self._beyond(Reason.ZIP_BOMB)
        if self.produced > limits.member_bytes:
            is_log = self.member.role is Role.LOG
            raise self._beyond(Reason.LOG_TOO_LARGE if is_log else Reason.ZIP_BOMB)
        if self.spent + self.produced > limits.total_bytes:
            raise self._beyond(Reason.ZIP_BOMB)

    def _beyond(self, reason: Reason) -> Refusal:
        facts = {
            "member": self.member.index,
            "plain_bytes": self.produced,
            "packed_bytes": self.member.entry.packed_size,
            "total_bytes": self.spent + self.produced,
        }
        return Refusal(reason, facts)


def check_members(archive: Archive, *, tick: Tick | None = None) -> MemberReport:
    """Read every member but the log once, and throw the bytes away.

    Finds broken members, bombs, false sizes and archives inside members, and takes the overview
    along. Raises `Refusal`: ZIP_BOMB, ZIP_SIZE_LIE, NESTED_ARCHIVE, and LOG_CORRUPT or
    LOG_TOO_LARGE for a further log file.
    """
    survey = _Survey(archive, tick)
    for member in archive.members:
        if member is not archive.log:
            survey.visit(member)
    return survey.report()


@dataclass(slots=True)
class _Nested:
    """Refuses a member in whose plain bytes an archive lists the log (NESTED_ARCHIVE)."""

    member: Member
    search: LogInStream

    def feed(self, chunk: bytes) -> None:
        self._refuse_if(self.search.feed(chunk))

    def finish(self) -> None:
        self._refuse_if(self.search.finish())

    def _refuse_if(self, is_found: bool) -> None:
        if is_found:
            raise Refusal(Reason.NESTED_ARCHIVE, {"member": self.member.index})


@dataclass(slots=True)
class _Survey:
    archive: Archive
    tick: Tick | None
    search: HeaderSearch = field(init=False)
    spent: int = 0
    unreadable: list[int] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    corrupt: int = 0
    overview: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.search = HeaderSearch(self.archive.limits.stray_headers)

    def visit(self, member: Member) -> None:
        if not member.is_supported:
            self.unreadable.append(member.index)
            return
        try:
            self._read(member)
        except Refusal as refusal:
            if refusal.reason is not Reason.MEMBER_CORRUPT:
                raise
            self.unreadable.append(member.index)
            self.corrupt += 1
            named = self.corrupt <= self.archive.limits.noted_paths
            detail = path_text(member.entry.name) if named else ""
            self.notes.append(Note(NoteKind.MEMBER_CORRUPT, detail))

    def _read(self, member: Member) -> None:
        nested = _Nested(member, self.search.stream())
        is_kept = member.role is Role.KEPT
        watch = nested.feed if is_kept else None
        is_overview = member is self.archive.overview
        try:
            for chunk in read_member(
                self.archive, member, spent=self.spent, tick=self._count, watch=watch,
                is_strict=is_kept,
            ):  # fmt: skip
                if is_overview and len(self.overview) <= self.archive.limits.overview_bytes:
                    self.overview += chunk
        except Refusal as refusal:
            # It is kept as it is, and some readers give out of it what comes before the fault, or
            # do not see one.
            if is_kept and refusal.reason is Reason.MEMBER_CORRUPT:
                nested.finish()
                if isinstance(refusal.__cause__, BrokenStream):
                    self._look_closer(member, is_strict=True)
                    self._look_closer(member, is_strict=False)
            raise
        nested.finish()

    def _look_closer(self, member: Member, *, is_strict: bool) -> None:
        """Read a broken member as far as a decoder goes, with what it keeps back at a fault."""
        fed_at = self._watched(member, None, is_strict=is_strict)
        if fed_at is not None:
            self._watched(member, fed_at, is_strict=is_strict)

    def _watched(self, member: Member, fine_from: int | None, *, is_strict: bool) -> int | None:
        """Look for an archive in a member; returns where the decoder gave up, if it did."""
        entry, limits = member.entry, self.archive.limits
        nested = _Nested(member, self.search.stream())
        fed_at = None
        try:
            for chunk in plain_chunks(
                entry.central.method, entry.central.flags, entry.packed, entry.plain_size,
                limits.window_bytes, fine_from, is_strict=is_strict,
            ):  # fmt: skip
                self._count(len(chunk))
                nested.feed(chunk)
                if self.spent > limits.total_bytes:
                    raise Refusal(Reason.ZIP_BOMB, {"total_bytes": self.spent})
        except BrokenStream as error:
            fed_at = error.fed_at
        nested.finish()
        return fed_at

    def _count(self, size: int) -> None:
        self.spent += size
        if self.tick is not None:
            self.tick(size)

    def report(self) -> MemberReport:
        member = self.archive.overview
        overview = None
        if member is not None and member.index not in self.unreadable:
            overview = parse_overview(bytes(self.overview), self.archive.limits)
        invalid = member if overview is None else None
        if invalid is not None:
            self.notes.append(Note(NoteKind.OVERVIEW_INVALID))
        return MemberReport(
            overview, invalid, frozenset(self.unreadable), self.corrupt, self.spent,
            tuple(dict.fromkeys(self.notes)),
        )  # fmt: skip
