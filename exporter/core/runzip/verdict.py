"""Whole-archive answers, built from inspection, member checks and the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from exporter.core.runzip.codes import LIMITS, Limits, Note, NoteKind, Outcome, Reason, Refusal
from exporter.core.runzip.directory import DESCRIPTOR, UTF8
from exporter.core.runzip.layout import Archive, Buffer, Member, inspect
from exporter.core.runzip.log import LogFacts, LogReader
from exporter.core.runzip.members import MemberReport, Tick, check_members
from exporter.core.runzip.names import LOG_WORD
from exporter.core.runzip.rewrite import is_unchanged, sanitised

__all__ = ["Verdict", "classify", "conclude", "sanitise", "verify", "verify_rewritten"]

_PIECE = 256 * 1024

#: Notes under which the archive's own bytes may go on being served.
_HARMLESS = frozenset({NoteKind.EMPTY, NoteKind.DUPLICATE_NAME})

#: Notes on bytes that no reader of the directory looks at.
_EXTRANEOUS = frozenset(
    {
        NoteKind.PREFIX_BYTES,
        NoteKind.GAP_BYTES,
        NoteKind.TRAILING_BYTES,
        NoteKind.HIDDEN_ENTRY,
        NoteKind.COMMENT_DROPPED,
    }
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome for one archive; `code` is the reason when it was refused, else "".

    `facts` are sizes and counts, safe to log.
    """

    outcome: Outcome
    code: str = ""
    notes: tuple[Note, ...] = ()
    facts: dict[str, int] = field(default_factory=dict)

    @property
    def note_codes(self) -> tuple[str, ...]:
        """The stored spelling of each note."""
        return tuple(note.code for note in self.notes)


def conclude(archive: Archive, report: MemberReport, log_facts: LogFacts | None = None) -> Verdict:
    """Return the verdict on an archive whose members, and log if it has one, were read.

    CLEAN means that the sanitised archive is the source byte for byte and nothing in it needs
    an original; everything else that was not refused is MIGRATED. Raises `ValueError` when
    there is a log and its facts are missing.
    """
    if archive.log is not None and log_facts is None:
        raise ValueError("the log was not read")
    notes = [*archive.notes, *report.notes]
    if log_facts is not None and log_facts.is_lossy:
        notes.append(Note(NoteKind.LOG_TEXT_LOSSY))
    is_harmless = all(note.kind in _HARMLESS for note in notes)
    is_clean = is_harmless and not archive.is_sensitive and is_unchanged(archive)
    facts = {
        "members": len(archive.members),
        "kept": len(archive.kept),
        "members_corrupt": report.corrupt,
        "archive_bytes": len(archive.view),
    }
    if log_facts is not None:
        facts["log_bytes"] = log_facts.plain_bytes
    return Verdict(Outcome.CLEAN if is_clean else Outcome.MIGRATED, "", tuple(notes), facts)


def classify(data: Buffer, limits: Limits = LIMITS, *, tick: Tick | None = None) -> Verdict:
    """Return the verdict on an archive, reading all of it and keeping nothing.

    Never raises for what the bytes are. For a job that also stores the log, the same steps one
    by one (`inspect`, `check_members`, `LogReader`, `conclude`) inflate it only once.
    """
    try:
        archive = inspect(data, limits)
        report = check_members(archive, tick=tick)
        log_facts = None
        if archive.log is not None:
            reader = LogReader(archive, spent=report.plain_bytes, tick=tick)
            for _ in reader.exact():
                pass
            log_facts = reader.facts
    except Refusal as refusal:
        return Verdict(refusal.outcome, refusal.code, facts=refusal.facts)
    return conclude(archive, report, log_facts)


def sanitise(
    data: Buffer, limits: Limits = LIMITS, *, tick: Tick | None = None
) -> Sequence[Buffer]:
    """Return an archive that may be served, as buffers to send in turn; never part of one.

    The log's own data is not read, since it is left out. Raises `Refusal` for every archive
    that cannot be proven free of the log; then nothing may be sent.
    """
    archive = inspect(data, limits)
    check_members(archive, tick=tick)
    return sanitised(archive)


def verify(data: Buffer, limits: Limits = LIMITS, *, tick: Tick | None = None) -> MemberReport:
    """Prove that an archive about to be stored or served unchanged does not hold the log.

    Raises `Refusal`: LOG_PRESENT when a member, or any header field, could be the log in some
    reading; EXTRANEOUS_BYTES when bytes or comments stand outside the members; and every reason
    of `inspect` and `check_members`, because what cannot be read one way only proves nothing.
    Data descriptors, zip64 records and unknown extra fields are in order.
    """
    return check_members(_free_of_log(data, limits), tick=tick)


def verify_rewritten(data: Buffer, source: Archive, *, tick: Tick | None = None) -> None:
    """Prove the same of what `sanitised` made of an archive that passed `check_members`.

    Everything around the packed bytes is looked at again. Packed bytes that are those of the
    source, under the same method, size and checksum, were read then and are not inflated twice;
    if any differ, all are. Raises as `verify` does.
    """
    written = _free_of_log(data, source.limits)
    if not _same_data(source.kept, written.members):
        check_members(written, tick=tick)


def _same_data(source: Sequence[Member], written: Sequence[Member]) -> bool:
    """Whether two lists of members hold the same packed bytes to be read in the same way."""
    return len(source) == len(written) and all(
        _reading(one) == _reading(other) and _is_equal(one.entry.packed, other.entry.packed)
        for one, other in zip(source, written, strict=True)
    )


def _is_equal(one: memoryview, other: memoryview) -> bool:
    # Views compare item by item; bytes do it at once, but not two copies of a large member.
    return len(one) == len(other) and all(
        bytes(one[at : at + _PIECE]) == bytes(other[at : at + _PIECE])
        for at in range(0, len(one), _PIECE)
    )


def _reading(member: Member) -> tuple[object, ...]:
    entry = member.entry
    central = entry.central
    # These two flags tell about headers, not about the data.
    flags = central.flags & ~(DESCRIPTOR | UTF8)
    return member.key, member.role, central.method, flags, central.crc, entry.plain_size


def _free_of_log(data: Buffer, limits: Limits) -> Archive:
    """Inspect an archive that must not name the log anywhere. Raises as `verify` does."""
    archive = inspect(data, limits)
    if archive.is_sensitive or _hides_log_word(archive):
        raise Refusal(Reason.LOG_PRESENT, {"members": len(archive.members)})
    if any(note.kind in _EXTRANEOUS for note in archive.notes):
        raise Refusal(Reason.EXTRANEOUS_BYTES, {"bytes": len(archive.view)})
    return archive


def _hides_log_word(archive: Archive) -> bool:
    """Tell whether an extra block, which is not rewritten here, could hold the log's name."""
    entries = (member.entry for member in archive.members)
    blocks = (block for entry in entries for block in (entry.extra, entry.local_extra))
    return any(LOG_WORD in block.lower() for block in blocks)
