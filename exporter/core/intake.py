"""One source session in, the archive rows made of it out.

Importers hand over what they read from a source, in the source's own words; this module decides
what of it is kept. It parses counters and times once, so that no export does, works out the order
and the duplicates of a session's usage, and leaves every text that is content at the door: there
is no field here that could carry it.

The rows leave as lines of PostgreSQL's COPY text format. They are the form in which the data is
cheapest to send, and their digest tells whether a session says anything new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from itertools import count, pairwise
from operator import itemgetter, lt
from typing import Any, Final, NamedTuple, TypeAlias, cast

from exporter.core.identity import session_directory
from exporter.core.remotes import hide_credentials
from exporter.core.text import storable
from exporter.core.times import (
    duration_seconds,
    full_text,
    parse_instant_ms,
    parse_strict_ns,
    seconds_text,
    utc_day,
)
from exporter.core.tokens import MOST_TOKENS, clamp_event, dedup_key, read_token_usage

#: Longest identifier and label kept, in UTF-8 bytes; longer ones do not fit an index entry.
MAX_ID_BYTES: Final = 512
MAX_LABEL_BYTES: Final = 1024
#: Longest other text kept, such as a path, in UTF-8 bytes.
MAX_TEXT_BYTES: Final = 16_384
#: A silence longer than this ends the active time that a message began.
ACTIVE_GAP_NS: Final = 300 * 1_000_000_000

_INT64_MAX: Final = (1 << 63) - 1
_INT32_MAX: Final = (1 << 31) - 1
#: 0001-01-01 and the end of 9999, in nanoseconds since the Unix epoch.
_FIRST_NS: Final = -62_135_596_800 * 1_000_000_000
_LAST_NS: Final = 253_402_300_800 * 1_000_000_000 - 1
_NULL: Final = "\\N"
_NUL: Final = "\0"
_REPLACEMENT: Final = "\ufffd"
_NO_STRETCH: Final = f"{_NULL}\t{_NULL}"
#: Longest RFC 3339 text in UTC that says no more than milliseconds.
_WHOLE_MS_LENGTH: Final = 24
#: The same for microseconds, PostgreSQL's own unit.
_WHOLE_US_LENGTH: Final = 27
_NOT_A_MODEL: Final = frozenset(("", "<synthetic>"))
_ROLE_CLASSES: Final = {"assistant": "a", "user": "u", "system": "s", "tool": "t"}
_COPY_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class SourceSession(NamedTuple):
    """A session as its source holds it. Times are the source's text; counts are whole numbers."""

    id: str
    project: str
    machine: str
    agent: str
    cwd: str
    git_branch: str
    file_path: str
    started_at: str | None
    ended_at: str | None
    created_at: str | None
    deleted_at: str | None
    message_count: int
    user_message_count: int
    parent_session_id: str | None
    relationship_type: str
    is_automated: bool
    total_output_tokens: int
    peak_context_tokens: int
    has_total_output_tokens: bool
    has_peak_context_tokens: bool
    outcome: str
    health_grade: str | None
    tool_failure_signal_count: int
    secret_leak_count: int
    termination_status: str | None


class SourceMessage(NamedTuple):
    """What an archive needs to know of one message; its words are never read."""

    session_id: str
    #: None where the source holds no whole number.
    ordinal: int | None
    role: str
    timestamp: str | None
    is_system: bool
    model: str
    token_usage: str
    message_id: str
    request_id: str
    source_uuid: str


class SourceEvent(NamedTuple):
    """One usage event. ``cost`` is in dollars, exact; ``event_id`` is the source's row id."""

    session_id: str
    event_id: int | None
    ordinal: int | None
    source: str
    model: str
    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    reasoning_tokens: int
    cost: Decimal | None
    occurred_at: str | None
    dedup_key: str


class Refused(ValueError):
    """A session that cannot be kept. ``reason`` is a code; the text names no stored value."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class Repairs:
    """How often hostile values were replaced by rule, by kind of repair."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def text(self, value: object) -> str:
        """Text that PostgreSQL can store; NUL and broken bytes become U+FFFD, and are counted."""
        if isinstance(value, str) and value.isascii() and "\0" not in value:
            return value
        if value is None:
            return ""
        if not isinstance(value, (str, bytes)):
            self.add("text_type")
            return str(value)
        text, changed = storable(value)
        if changed:
            self.add("text")
        return text

    def optional_text(self, value: object) -> str | None:
        return None if value is None else self.text(value)

    def whole(self, value: object) -> int:
        """A 64-bit whole number; text digits and floats are read, anything else is 0."""
        if type(value) is int:
            if -_INT64_MAX <= value <= _INT64_MAX:
                return value
            self.add("number_range")
            return _INT64_MAX if value > 0 else -_INT64_MAX
        if value is None:
            return 0
        return self._coerced(value)

    def _coerced(self, value: Any) -> int:
        self.add("number_type")
        if isinstance(value, bytes):
            value = value.decode("ascii", "replace")
        try:
            number = int(value)
        except (TypeError, ValueError, OverflowError):
            return 0
        return int(max(-_INT64_MAX, min(_INT64_MAX, number)))


class Rows(NamedTuple):
    """COPY lines of one session, without their leading numbers, and the digest of them all."""

    session: str
    usage: list[str]
    points: list[str]
    digest: str
    #: Directory of the transcript, evidence for the project identity.
    directory: str


class _Usage(NamedTuple):
    """A usage row on its way; the first four decide the order in which a session counts."""

    time_text: str
    ordinal: int
    is_event: bool
    event_id: int
    #: COPY fields of the time.
    at: str
    model: str
    source: str | None
    counts: tuple[int, int, int, int, int]
    cost: Decimal | None
    key: str | None


#: A message that has a time text, that text, its instant, and the two COPY fields of the instant.
_Timed: TypeAlias = tuple[SourceMessage, str, int | None, str]


class Activity(NamedTuple):
    """What the message times of a session say about it as a whole."""

    latest_text: str
    latest_ms: int | None
    latest_at: str | None


def copy_text(text: str | None) -> str:
    r"""A COPY field: ``\N`` for null, back slashes and line breaks escaped."""
    if text is None:
        return "\\N"
    if "\\" in text or "\n" in text or "\t" in text or "\r" in text:
        return text.translate(_COPY_ESCAPES)
    return text


def row_uuid(text: str) -> str:
    """A 128-bit digest of a key, as the 32 hex digits of a PostgreSQL uuid."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def fits(text: str, most: int) -> bool:
    """Whether text has at most this many bytes of UTF-8."""
    return len(text) <= most // 4 or len(text.encode()) <= most


def public_session(session: SourceSession, repairs: Repairs) -> SourceSession:
    """The session without anything in its texts that looks like a credential; counts what went.

    Raises `Refused` for a session whose texts cannot be kept as they are, among them an id that
    looks like a credential: others refer to it, and two could become one.
    """
    _check_identifiers(session)
    texts = "\n".join([value for value in session if type(value) is str])
    # The rules for web addresses look at where a text begins, so those are looked at one by one.
    if ":/" not in texts and hide_credentials(texts) == texts:
        return session
    hidden = SourceSession(
        *(hide_credentials(value) if type(value) is str else value for value in session)  # type: ignore[arg-type]
    )
    if hidden.id != session.id:
        raise Refused("id_credential")
    if hidden != session:
        repairs.add("credential")
    return hidden


def session_rows(
    session: SourceSession,
    messages: Sequence[SourceMessage],
    events: Iterable[SourceEvent],
    model_id: Callable[[str], int],
    repairs: Repairs,
) -> Rows:
    """Work out every archive row of one session.

    ``messages`` are in ordinal order; ``model_id`` gives the archive's number of a model name.
    Messages without an ordinal of their own get one (`_numbered`), and values that had to be bent
    to a rule are counted in ``repairs``. Raises `Refused` for a session whose identifier or labels
    cannot be kept as they are.
    """
    _check_identifiers(session)
    messages = _numbered(messages, repairs)
    assistants = sum(1 for m in messages if m.role == "assistant" and not m.is_system)
    timed = _timed(messages)
    directory = session_directory(session.file_path)
    usage = _usage_rows(session, messages, timed, events)
    _note_odd_values(usage, messages, timed, repairs)
    usage_lines = _usage_lines(usage, model_id)
    points = _point_lines(timed, model_id)
    activity = _latest_activity(timed)
    if not fits(activity.latest_text, MAX_TEXT_BYTES):
        raise Refused("text_length")
    activity = activity._replace(latest_text=hide_credentials(repairs.text(activity.latest_text)))
    line = _session_line(session, directory, assistants, activity)
    hashed = blake2b(line.encode(), digest_size=16)
    hashed.update("".join(usage_lines).encode())
    hashed.update("".join(points).encode())
    return Rows(line, usage_lines, points, hashed.hexdigest(), directory)


def _numbered(messages: Sequence[SourceMessage], repairs: Repairs) -> Sequence[SourceMessage]:
    """The messages with ordinals that are distinct whole numbers of 32 bits, in their order.

    What has no such number, or one that another message had first, follows behind the others in
    the order given, and is counted.
    """
    ordinals = [message.ordinal for message in messages]
    if not ordinals or _rises(ordinals):
        return messages
    kept: dict[int, SourceMessage] = {}
    odd: list[SourceMessage] = []
    for message in messages:
        at = message.ordinal
        if at is None or at in kept or not -_INT32_MAX <= at <= _INT32_MAX:
            odd.append(message)
            repairs.add("ordinal")
        else:
            kept[at] = message
    after = max(kept, default=-1) + 1
    if after + len(odd) > _INT32_MAX:
        after = 0  # in the gaps between the others
    free = (number for number in count(after) if number not in kept)
    renumbered = [
        message._replace(ordinal=number) for message, number in zip(odd, free, strict=False)
    ]
    return sorted([*kept.values(), *renumbered], key=itemgetter(1))


def _rises(ordinals: list[int | None]) -> bool:
    """Whether these are rising whole numbers of 32 bits, as nearly all are."""
    if None in ordinals:
        return False
    whole = cast("list[int]", ordinals)
    if whole[0] < -_INT32_MAX or whole[-1] > _INT32_MAX:
        return False
    return all(map(lt, whole, whole[1:]))


def _timed(messages: Sequence[SourceMessage]) -> list[_Timed]:
    """The messages with a time text, read once for all that follows."""
    timed: list[_Timed] = []
    for message in messages:
        text = message.timestamp
        if not text:
            continue
        ns = parse_strict_ns(text)
        at, beyond = _postgres_time(text, ns)
        timed.append((message, text, ns, f"{at or _NULL}\t{beyond}"))
    return timed


def _note_odd_values(
    usage: list[_Usage],
    messages: Sequence[SourceMessage],
    timed: Sequence[_Timed],
    repairs: Repairs,
) -> None:
    for row in usage:
        if max(row.counts) == MOST_TOKENS:
            repairs.add("tokens_clamped")
    for message in messages:
        if message.token_usage and message.token_usage[-1] != "}":
            repairs.add("usage_text")
    for _, _, _, at in timed:
        if at.startswith(_NULL):
            repairs.add("time")


def _check_identifiers(session: SourceSession) -> None:
    if "\ufffd" in session.id:
        raise Refused("id_not_text")
    if not session.id or len(session.id.encode()) > MAX_ID_BYTES:
        raise Refused("id_length")
    for label in (session.project, session.machine, session.agent, session.parent_session_id or ""):
        if len(label.encode()) > MAX_LABEL_BYTES:
            raise Refused("label_length")
    for text in session:
        if type(text) is str and not fits(text, MAX_TEXT_BYTES):
            raise Refused("text_length")


def _latest_activity(timed: Sequence[_Timed]) -> Activity:
    """The message time with the greatest instant, in both readings of time text.

    Text that is no instant counts only where nothing else does; ties go to the greatest text. Of
    the texts of whole milliseconds, which both readings see alike, only the latest is compared.
    """
    best: tuple[bool, int, str] = (False, 0, "")
    latest: tuple[int, str] | None = None
    whole: tuple[int, str] | None = None
    for _, text, ns, at in timed:
        if ns is not None and (latest is None or ns > latest[0]):
            latest = (ns, at)
        if ns is not None and len(text) <= _WHOLE_MS_LENGTH and _is_plain_utc(text):
            if whole is None or ns > whole[0] or (ns == whole[0] and text > whole[1]):
                whole = (ns, text)
        else:
            ms = parse_instant_ms(text)
            best = max(best, (ms is not None, ms or 0, text))
    if whole is not None:
        best = max(best, (True, whole[0] // 1_000_000, whole[1]))
    latest_at = latest[1].partition("\t")[0] if latest else _NULL
    return Activity(
        best[2], best[1] if best[0] else None, None if latest_at == _NULL else latest_at
    )


def _is_plain_utc(text: str) -> bool:
    """Whether accepted RFC 3339 text has two digits of hour, a point if any, and a Z."""
    return text[-1] == "Z" and text[13] == ":" and text[19] in ".Z"


def _session_line(
    session: SourceSession, directory: str, assistants: int, activity: Activity
) -> str:
    """All stored columns of the session but the keys, in the order of the staging table."""
    last_text, activity_ms = _last_activity(session, activity)
    end = session.ended_at or last_text
    fields = (
        session.id,
        session.project,
        session.machine,
        session.agent,
        session.cwd,
        session.git_branch,
        directory,
        session.started_at,
        session.ended_at,
        session.created_at,
        session.deleted_at,
        _timestamp_field(session.started_at),
        _timestamp_field(session.ended_at),
        _timestamp_field(session.created_at),
        activity.latest_at,
        last_text,
        activity_ms,
        utc_day(session.started_at or session.created_at or ""),
        duration_seconds(session.started_at, end),
        session.message_count,
        session.user_message_count,
        assistants,
        session.parent_session_id,
        session.relationship_type,
        session.is_automated,
        session.total_output_tokens,
        session.peak_context_tokens,
        session.has_total_output_tokens,
        session.has_peak_context_tokens,
        session.outcome,
        session.health_grade,
        session.tool_failure_signal_count,
        session.secret_leak_count,
        session.termination_status,
    )
    return "\t".join([_copy_field(value) for value in fields])


def _copy_field(value: str | int | None) -> str:
    if value is None:
        return "\\N"
    if value is True or value is False:
        return "t" if value else "f"
    return copy_text(value) if isinstance(value, str) else str(value)


def _last_activity(session: SourceSession, activity: Activity) -> tuple[str, int | None]:
    """The text that is shown, and the instant that sorts: they may stem from different columns.

    The first text that is not empty is shown; the first that is an instant sorts.
    """
    shown = session.ended_at or activity.latest_text or session.started_at or session.created_at
    for candidate in (session.ended_at, None, session.started_at, session.created_at):
        ms = activity.latest_ms if candidate is None else parse_instant_ms(candidate)
        if ms is not None:
            return shown or "", ms
    return shown or "", None


def _timestamp_field(text: str | None) -> str | None:
    """Time text as PostgreSQL reads it, null unless it is RFC 3339; microseconds at most."""
    return _postgres_time(text, parse_strict_ns(text))[0] if text else None


def _postgres_time(text: str, ns: int | None) -> tuple[str | None, int]:
    """(timestamptz input, nanoseconds beyond its microseconds) of time text and its instant.

    The usual text is PostgreSQL's own input already; formatting is for the rest. Instants outside
    the years 1 to 9999 have no stored form: they count as no instant.
    """
    if ns is None or not _FIRST_NS <= ns <= _LAST_NS:
        return None, 0
    if len(text) <= _WHOLE_US_LENGTH and _is_plain_utc(text):
        return text, 0
    micros, beyond = divmod(ns, 1000)
    return f"{seconds_text(ns)[:-1]}.{micros % 1_000_000:06}Z", beyond


def instant_text(text: str) -> str:
    """RFC 3339 time text in a spelling that PostgreSQL reads too, '' for what is no instant."""
    ns = parse_strict_ns(text) if text else None
    if ns is None or not _FIRST_NS <= ns <= _LAST_NS:
        return ""
    is_plain = len(text) <= _WHOLE_US_LENGTH and _is_plain_utc(text)
    return text if is_plain else full_text(ns)


def _usage_rows(
    session: SourceSession,
    messages: Sequence[SourceMessage],
    timed: Sequence[_Timed],
    events: Iterable[SourceEvent],
) -> list[_Usage]:
    """Every usage-bearing row, in the order in which a session counts them.

    That order compares the time as text, as its contract demands, then the ordinal, then puts
    messages before events. A row without a time has the start of its session.
    """
    start = session.started_at or ""
    start_at = time_fields(start)
    rows = [
        # A time that is not kept leaves the day it names.
        _message_usage(session, m, text, None if at.startswith(_NULL) else f"{at}\t{_NULL}")
        for m, text, _, at in timed
        if m.token_usage and m.model not in _NOT_A_MODEL
    ]
    rows += [
        _message_usage(session, m, start, start_at)
        for m in messages
        if not m.timestamp and m.token_usage and m.model not in _NOT_A_MODEL
    ]
    rows += [_event_usage(session, e, start) for e in events if e.model]
    rows.sort(key=_USAGE_ORDER)
    return rows


_USAGE_ORDER: Final = itemgetter(0, 1, 2, 3)


def _message_usage(
    session: SourceSession, message: SourceMessage, time_text: str, at: str | None
) -> _Usage:
    """The usage row of a message; ``at`` are the COPY fields of its time where they are known."""
    key = dedup_key(
        kind="message",
        session_id=session.id,
        agent=session.agent,
        message_id=message.message_id,
        request_id=message.request_id,
        source_uuid=message.source_uuid,
    )
    counts = read_token_usage(message.token_usage)
    fields = time_fields(time_text) if at is None else at
    return _Usage(
        time_text, message.ordinal or 0, False, 0, fields, message.model, None, counts, None, key
    )


def _event_usage(session: SourceSession, event: SourceEvent, fallback: str) -> _Usage:
    counts = clamp_event(
        event.source,
        event.input_tokens,
        event.output_tokens,
        event.cache_creation_input_tokens,
        event.cache_read_input_tokens,
        event.reasoning_tokens,
    )
    key = dedup_key(
        kind="event",
        session_id=session.id,
        source=event.source,
        event_key=event.dedup_key,
        event_id=event.event_id,
    )
    if not fits(event.source, MAX_LABEL_BYTES):
        raise Refused("label_length")
    text = fallback if event.occurred_at is None else event.occurred_at
    ordinal = -1 if event.ordinal is None else event.ordinal
    return _Usage(
        text,
        ordinal,
        True,
        event.event_id or 0,
        time_fields(text),
        event.model,
        hide_credentials(event.source),
        counts,
        event.cost,
        key,
    )


def _usage_lines(rows: list[_Usage], model_id: Callable[[str], int]) -> list[str]:
    """COPY lines without the leading session number; the first of a key is the one that counts."""
    seen: set[str] = set()
    lines = []
    for position, row in enumerate(rows):
        first = row.key is None or row.key not in seen
        key = _NULL
        if row.key is not None:
            seen.add(row.key)
            key = row_uuid(row.key)
        counted = "t" if first and (row.cost is not None or any(row.counts)) else "f"
        a, b, c, d, e = row.counts
        cost = _NULL if row.cost is None else f"{row.cost:f}"
        lines.append(
            f"{position}\t{_int32(row.ordinal)}\t{model_id(row.model)}\t{copy_text(row.source)}"
            f"\t{row.at}\t{a}\t{b}\t{c}\t{d}\t{e}\t{cost}\t{key}\t{counted}\n"
        )
    return lines


def time_fields(text: str) -> str:
    """Three COPY fields: timestamptz, nanoseconds beyond it, and the day text of a non-instant."""
    at, beyond = _postgres_time(text, parse_strict_ns(text))
    if at is not None:
        return f"{at}\t{beyond}\t{_NULL}"
    raw = text.encode()
    day = raw[:10].decode("utf-8", "replace") if len(raw) >= 10 else ""
    return f"{_NULL}\t0\t{copy_text(day.replace(_NUL, _REPLACEMENT))}"


def _int32(value: int) -> int:
    return value if -_INT32_MAX <= value <= _INT32_MAX else (_INT32_MAX if value > 0 else -1)


def _point_lines(timed: Sequence[_Timed], model_id: Callable[[str], int]) -> list[str]:
    """One COPY line per message with a time: the point, and the active time that begins there."""
    lines = []
    for (message, _, _, at), stretch in zip(timed, _active_times(timed, model_id), strict=True):
        ordinal, role, name = message.ordinal, message.role, message.model
        model = model_id(name) if name else _NULL
        lines.append(f"{ordinal}\t{at}\t{_ROLE_CLASSES.get(role, 'o')}\t{model}\t{stretch}\n")
    return lines


def _active_times(timed: Sequence[_Timed], model_id: Callable[[str], int]) -> list[str]:
    """Two COPY fields per message: active nanoseconds that begin with it, and their model.

    The stretch between two neighbours belongs to the first, is cut at `ACTIVE_GAP_NS`, and is
    credited to the model of the latest assistant message so far. A pair that does not move
    forward in time, or has no readable time on either side, credits nothing and teaches nothing.
    """
    stretches = []
    model = _NULL
    for (_, _, here, _), (follower, _, after, _) in pairwise(timed):
        if here is None or after is None or after <= here:
            stretches.append(_NO_STRETCH)
            continue
        if follower.role == "assistant" and follower.model:
            model = str(model_id(follower.model))
        gap = after - here
        stretches.append(f"{gap if gap < ACTIVE_GAP_NS else ACTIVE_GAP_NS}\t{model}")
    if timed:
        stretches.append(_NO_STRETCH)
    return stretches
