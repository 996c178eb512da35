"""Page cursors of the session export, and the filters they carry.

A cursor tells where a page ended and under which filters, signed with the archive's secret, so
that a later call needs nothing else and can trust it. Consumers treat it as opaque. Instead of a
digest over the whole set of sessions it names the archive revision it was minted at; whether that
set has changed since is for the caller to find out, in time proportional to the changes.
"""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import orjson

from exporter.core import wire
from exporter.core.text import storable, trim
from exporter.core.times import julian_day, ms_of_julian_day

#: The order of pages, as cursors name it.
ORDER: Final = "last_activity_at DESC, id ASC"
#: Between branch tokens, and between the project and the branch of one.
BRANCH_SEPARATOR: Final = "\x1e"
BRANCH_PART_SEPARATOR: Final = "\x1f"

_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*")
_LINE_ENDS: Final = str.maketrans("", "", "\r\n")
_SCOPES: Final = {"human": False, "all": True}


class CursorInvalid(ValueError):
    """The cursor is not one this archive can go on from: the export must restart (exit 4)."""


class CursorOrderMismatch(ValueError):
    """The cursor is genuine but pages in another order: an ordinary error (exit 1).

    `order` is the cursor's.
    """

    def __init__(self, order: str) -> None:
        super().__init__(
            f"the cursor was made for the order {order!r}, this export pages by {ORDER!r}; "
            "start the export again without --cursor"
        )
        self.order = order


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a session export selects by, normalised: equal filters select alike.

    Empty text, an empty list, false, 0 and None mean that nothing is filtered.
    """

    project: str = ""
    exclude_project: str = ""
    machines: tuple[str, ...] = ()
    #: Branch tokens as given; `branches` reads them.
    branch_tokens: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    #: `YYYY-MM-DD`, compared as text; both ends of a range are included.
    date: str = ""
    date_from: str = ""
    date_to: str = ""
    #: Time text in the lenient reading of `exporter.core.times`.
    active_since: str = ""
    #: Numbers of messages; 0 and below filter nothing.
    min_messages: int = 0
    max_messages: int = 0
    min_user_messages: int = 0
    include_one_shot: bool = False
    include_automated: bool = False
    include_children: bool = False
    outcomes: tuple[str, ...] = ()
    health_grades: tuple[str, ...] = ()
    #: None filters nothing; 0 and below are ordinary bounds.
    min_tool_failures: int | None = None
    has_secret: bool = False

    @classmethod
    def from_options(
        cls,
        *,
        project: str = "",
        exclude_project: str = "",
        machine: str = "",
        git_branch: str = "",
        agent: str = "",
        date: str = "",
        date_from: str = "",
        date_to: str = "",
        active_since: str = "",
        min_messages: int = 0,
        max_messages: int = 0,
        min_user_messages: int = 0,
        include_one_shot: bool = False,
        include_automated: bool = False,
        include_children: bool = False,
        outcome: str = "",
        health_grade: str = "",
        min_tool_failures: int | None = None,
        has_secret: bool = False,
    ) -> Self:
        """Normalise raw option values: text trimmed, lists split, trimmed, sorted, empties dropped.

        Nothing is checked; `validate_date` and `validate_instant` of `exporter.core.times` are.
        """
        return cls(
            project=_clean(project),
            exclude_project=_clean(exclude_project),
            machines=_split(machine),
            branch_tokens=_split(git_branch, BRANCH_SEPARATOR),
            agents=_split(agent),
            date=_clean(date),
            date_from=_clean(date_from),
            date_to=_clean(date_to),
            active_since=_clean(active_since),
            min_messages=min_messages,
            max_messages=max_messages,
            min_user_messages=min_user_messages,
            include_one_shot=include_one_shot,
            include_automated=include_automated,
            include_children=include_children,
            outcomes=_split(outcome),
            health_grades=_split(health_grade),
            min_tool_failures=min_tool_failures,
            has_secret=has_secret,
        )

    @property
    def branches(self) -> tuple[tuple[str, str], ...] | None:
        """(project, branch) pairs of which a session must match one; None filters nothing.

        A token without a separator is no pair, so tokens that are all broken give an empty tuple:
        then nothing matches.
        """
        if not self.branch_tokens:
            return None
        parts = [token.partition(BRANCH_PART_SEPARATOR) for token in self.branch_tokens]
        return tuple((project, branch) for project, separator, branch in parts if separator)

    def to_payload(self) -> dict[str, wire.Json]:
        """The filters as a cursor carries them: only those that are set, in a fixed order."""
        members: dict[str, wire.Json] = {
            "project": self.project,
            "exclude_project": self.exclude_project,
            "machine": ",".join(self.machines),
            "git_branch": BRANCH_SEPARATOR.join(self.branch_tokens),
            "agent": ",".join(self.agents),
            "date": self.date,
            "date_from": self.date_from,
            "date_to": self.date_to,
            "active_since": self.active_since,
            "min_messages": self.min_messages,
            "max_messages": self.max_messages,
            "min_user_messages": self.min_user_messages,
            "exclude_one_shot": not self.include_one_shot,
            "automated_scope": "all" if self.include_automated else "human",
            "include_children": self.include_children,
            "outcome": list(self.outcomes),
            "health_grade": list(self.health_grades),
            "min_tool_failures": self.min_tool_failures,
            "has_secret": self.has_secret,
        }
        # A bound of 0 tool failures is a filter; every other zero is the absence of one.
        return {
            name: value
            for name, value in members.items()
            if value or (name == "min_tool_failures" and value is not None)
        }

    @classmethod
    def from_payload(cls, members: Mapping[str, Any]) -> Self:
        """Read the filters of a cursor. Raises CursorInvalid for a member of the wrong type."""
        read = _Reader(members)
        scope = read.text("automated_scope")
        if scope not in _SCOPES:
            raise CursorInvalid("the cursor holds an unknown automated_scope")
        return cls(
            project=read.text("project"),
            exclude_project=read.text("exclude_project"),
            machines=_split(read.text("machine")),
            branch_tokens=_split(read.text("git_branch"), BRANCH_SEPARATOR),
            agents=_split(read.text("agent")),
            date=read.text("date"),
            date_from=read.text("date_from"),
            date_to=read.text("date_to"),
            active_since=read.text("active_since"),
            min_messages=read.integer("min_messages") or 0,
            max_messages=read.integer("max_messages") or 0,
            min_user_messages=read.integer("min_user_messages") or 0,
            include_one_shot=not read.flag("exclude_one_shot"),
            include_automated=_SCOPES[scope],
            include_children=read.flag("include_children"),
            outcomes=read.texts("outcome"),
            health_grades=read.texts("health_grade"),
            min_tool_failures=read.integer("min_tool_failures"),
            has_secret=read.flag("has_secret"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a page ended. Instants are Unix milliseconds, beside the text they were read from."""

    database_id: str
    filters: Filters
    order: str = ORDER
    #: Latest activity of the whole run; sessions beyond it wait for the next run.
    watermark: str
    watermark_ms: int
    #: Activity and id of the last session sent.
    last_activity_at: str
    last_activity_ms: int
    last_id: str
    #: Page size of the call that made the cursor; a later call need not keep to it.
    limit: int
    #: Archive revision this was made at, and a token that proves the revision.
    revision: int
    revision_token: str


def encode(cursor: Cursor, secret: bytes) -> str:
    """Write a cursor as signed, URL-safe text. Raises ValueError for an empty secret."""
    content = payload(cursor)
    return f"{_base64url(content)}.{_base64url(signature(content, secret))}"


def decode(text: str, secret: bytes, *, database_id: str | None = None) -> Cursor:
    """Read a cursor back and check that it is genuine.

    Raises CursorInvalid for text that is no cursor, was changed, or was signed with another
    secret, and also for a cursor of an archive other than `database_id`, where that is given.
    Raises CursorOrderMismatch only after all of these. Whether the archive has changed since is
    not checked here.
    """
    parts = text.split(".")
    if len(parts) != 2:
        raise CursorInvalid("a cursor has two parts, joined by one point")
    content = _from_base64url(parts[0])
    cursor = _read_payload(content)
    if not hmac.compare_digest(_from_base64url(parts[1]), signature(content, secret)):
        raise CursorInvalid("the cursor was changed, or signed with another secret")
    if database_id is not None and cursor.database_id != database_id:
        raise CursorInvalid("the cursor belongs to another archive")
    if cursor.order != ORDER:
        raise CursorOrderMismatch(cursor.order)
    return cursor


def payload(cursor: Cursor) -> bytes:
    """The signed bytes of a cursor: compact JSON, keys in the contract's order."""
    return wire.encode(
        {
            "database_id": cursor.database_id,
            "filters": cursor.filters.to_payload(),
            "order": cursor.order,
            "watermark": cursor.watermark,
            "watermark_sort": julian_day(cursor.watermark_ms),
            "last_activity_at": cursor.last_activity_at,
            "last_activity_sort": julian_day(cursor.last_activity_ms),
            "last_id": cursor.last_id,
            "limit": cursor.limit,
            "revision": cursor.revision,
            "revision_token": cursor.revision_token,
        }
    )


def signature(content: bytes, secret: bytes) -> bytes:
    """HMAC-SHA-256 of a payload. Raises ValueError for an empty secret, which anybody knows."""
    if not secret:
        raise ValueError("a cursor cannot be signed with an empty secret")
    return hmac.digest(secret, content, "sha256")


def _read_payload(content: bytes) -> Cursor:
    try:
        members = orjson.loads(content)
    except ValueError:
        raise CursorInvalid("the cursor does not hold JSON") from None
    if not isinstance(members, dict):
        raise CursorInvalid("the cursor does not hold a JSON object")
    read = _Reader(members)
    return Cursor(
        database_id=read.text("database_id"),
        filters=Filters.from_payload(read.object("filters")),
        order=read.text("order"),
        watermark=read.text("watermark"),
        watermark_ms=read.instant("watermark_sort"),
        last_activity_at=read.text("last_activity_at"),
        last_activity_ms=read.instant("last_activity_sort"),
        last_id=read.text("last_id"),
        limit=read.needed_integer("limit"),
        revision=read.needed_integer("revision"),
        revision_token=read.text("revision_token"),
    )


class _Reader:
    """Members of a JSON object by type; CursorInvalid for any other. Absent is empty or false."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        self.members = members

    def text(self, name: str) -> str:
        value = self.members.get(name, "")
        if not isinstance(value, str):
            raise self._wrong(name)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.members.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name)
        return tuple(value)

    def flag(self, name: str) -> bool:
        value = self.members.get(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name)
        return value

    def integer(self, name: str) -> int | None:
        value = self.members.get(name)
        # true is an int to Python, but not to JSON.
        if value is not None and type(value) is not int:
            raise self._wrong(name)
        return value

    def needed_integer(self, name: str) -> int:
        value = self.integer(name)
        if value is None:
            raise self._wrong(name)
        return value

    def instant(self, name: str) -> int:
        value = self.members.get(name)
        # A Julian day at noon is a whole number and is written without a fraction.
        if type(value) is not float and type(value) is not int:
            raise self._wrong(name)
        try:
            return ms_of_julian_day(float(value))
        except (OverflowError, ValueError):
            raise self._wrong(name) from None

    def object(self, name: str) -> Mapping[str, Any]:
        value = self.members.get(name)
        if not isinstance(value, dict):
            raise self._wrong(name)
        return value

    @staticmethod
    def _wrong(name: str) -> CursorInvalid:
        return CursorInvalid(f"the cursor has no usable {name}")


def _clean(text: str) -> str:
    """Trimmed text that can be compared with stored text; the command line may hold other bytes."""
    return trim(storable(text)[0])


def _split(text: str, separator: str = ",") -> tuple[str, ...]:
    items = (trim(item) for item in storable(text)[0].split(separator))
    return tuple(sorted(item for item in items if item))


def _base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _from_base64url(text: str) -> bytes:
    """Decode unpadded base64url, skipping line ends; CursorInvalid for other text."""
    text = text.translate(_LINE_ENDS)
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise CursorInvalid("the cursor is not base64url text")
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
