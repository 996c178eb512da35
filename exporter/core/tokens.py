"""Token counters out of stored usage, and the keys that tell one use from its copies.

A message keeps its usage as the JSON text its provider sent, sometimes cut short or mangled. The
contract reads it with a forgiving walk over the characters rather than with a JSON parser, so the
walk is written out here; well-formed text, which is nearly all there is, takes a faster way with
the same answer. Counting happens once, at import.
"""

import re
from json import loads as decode_string
from typing import Final, Literal, NamedTuple

import orjson

from exporter.core.text import trim

#: No single response uses more; larger counters are cut to this.
MOST_TOKENS: Final = 2_000_000


class TokenCounts(NamedTuple):
    """The counters of one use, named as in the JSON they are read from."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    reasoning_tokens: int


NO_TOKENS: Final = TokenCounts(0, 0, 0, 0, 0)


def read_token_usage(text: str) -> TokenCounts:
    """Read the counters of a message's usage text, each clamped to 0..2,000,000.

    Only top-level members count. A number counts as its leading integer digits (`12.7` is 12,
    `1e3` is 1), a string as the integer it spells; the last usable value of a repeated name wins.
    Broken text keeps what was read before the reader had to give up. Never raises.
    """
    try:
        usage = orjson.loads(text)
    except ValueError:
        return walk_token_usage(text)
    if type(usage) is not dict:
        return NO_TOKENS
    get = usage.get
    counts = (
        get("input_tokens", 0),
        get("output_tokens", 0),
        get("cache_creation_input_tokens", 0),
        get("cache_read_input_tokens", 0),
        get("reasoning_tokens", 0),
    )
    for count in counts:
        # The parser keeps the last of several equal names. A plain integer there is the answer;
        # anything else may hide an earlier usable value, or the digits a number was written with.
        if type(count) is not int:
            return walk_token_usage(text)
    if min(counts) < 0 or max(counts) > MOST_TOKENS:
        return TokenCounts._make(map(_clamped, counts))
    return TokenCounts._make(counts)


def walk_token_usage(text: str) -> TokenCounts:
    """Read usage text character by character: the definition that `read_token_usage` speeds up."""
    walk = _Walk(text)
    walk.run()
    return TokenCounts._make(_clamped(walk.counts.get(name, 0)) for name in TokenCounts._fields)


def clamp_event(
    source: str,
    input_tokens: int,
    output_tokens: int,
    cache_creation_input_tokens: int,
    cache_read_input_tokens: int,
    reasoning_tokens: int,
) -> TokenCounts:
    """Bring the stored counters of a usage event into the range its source allows.

    An event of source `session` sums up a whole session and has no upper bound; one of source
    `message` is read like a message without usage text, so only a reported cost makes it count.
    Reasoning stays as stored, even if negative.
    """
    if source == "message":
        return NO_TOKENS
    bounded = _floored if source == "session" else _clamped
    return TokenCounts(
        bounded(input_tokens),
        bounded(output_tokens),
        bounded(cache_creation_input_tokens),
        bounded(cache_read_input_tokens),
        reasoning_tokens,
    )


def dedup_key(
    *,
    kind: Literal["message", "event", "cursor"],
    session_id: str = "",
    agent: str = "",
    message_id: str = "",
    request_id: str = "",
    source_uuid: str = "",
    source: str = "",
    event_key: str = "",
    event_id: int | str | None = None,
) -> str | None:
    """Name a use so that equal keys mean the same use; None if nothing identifies it.

    Works within a session and across sessions: what is only unique in its session carries the
    session id. `kind` is `cursor` for an account-level billing row, `event_key` a row's stored
    dedup key, `event_id` the source's row number, used where an event has no such key.
    """
    if message_id and request_id:
        # Written out, as it runs for nearly every usage: the same text as that of `_key`.
        return f"4:pair{len(message_id)}:{message_id}{request_id}"
    if kind == "message":
        return _key("uuid", agent, source_uuid) if agent and source_uuid else None
    if kind == "cursor":
        return _key("cursor", event_key) if event_key else None
    if event_key:
        return _key("event", session_id, source, event_key)
    return None if event_id is None else _key("row", session_id, source, str(event_id))


def _key(*parts: str) -> str:
    """Join parts unambiguously, whatever is in them: each but the last after its length."""
    *heads, last = parts
    return "".join([f"{len(part)}:{part}" for part in heads]) + last


def _floored(count: int) -> int:
    return max(count, 0)


def _clamped(count: int) -> int:
    return 0 if count < 0 else min(count, MOST_TOKENS)


_NAMES: Final = frozenset(TokenCounts._fields)
_OPENING: Final = re.compile(r"[ \t\n\r]*\{")
_MARK: Final = re.compile(r'["{}\[]')
_BRACKET: Final = re.compile(r'["{}\[\]]')
_COLON: Final = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_STRING: Final = re.compile(
    r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
)
#: Quotes and what they hold, well formed or not.
_QUOTED: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_LEADING_INTEGER: Final = re.compile(r"-?[0-9]++")
#: A scalar that is not a string. A point or an `e` without digits behind it spoils a number.
_SCALAR: Final = re.compile(
    r"true|false|null|-?[0-9]++(?:\.[0-9]++|(?!\.))(?:[eE][+-]?[0-9]++|(?![eE]))"
)
_SPELT_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
#: More digits than this are more than any counter.
_MOST_DIGITS: Final = 18
_CLOSING: Final = {"{": "}", "[": "]"}


class _Walk:
    """One reading of usage text: where it stands and the last usable value of each counter."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.counts: dict[str, int] = {}
        #: Openings known to be unbalanced. Trying each of a long row of them again from its own
        #: place would take time with the square of its length.
        self.unbalanced: set[int] = set()

    def run(self) -> None:
        opening = _OPENING.match(self.text)
        if not opening:
            return
        self.at = opening.end()
        while mark := _MARK.search(self.text, self.at):
            self.at = mark.start()
            if mark[0] == "}":
                return
            if mark[0] != '"':
                self.at = self._container_end(self.at) or self.at + 1
            elif not self._read_string():
                return

    def _read_string(self) -> bool:
        """Pass the string here, and its value if it is a name; False where reading ends."""
        string = _STRING.match(self.text, self.at)
        if not string:
            return False
        self.at = string.end()
        colon = _COLON.match(self.text, self.at)
        if not colon:
            return True
        self.at = colon.end()
        name = decode_string(string[0])
        if name in _NAMES:
            return self._read_counter(name)
        end = self._value_end(self.at)
        self.at = end or self.at
        return end is not None

    def _read_counter(self, name: str) -> bool:
        """Take a counter's value, or pass it where it is none; False where reading ends."""
        if digits := _LEADING_INTEGER.match(self.text, self.at):
            self.counts[name] = _saturated(digits[0])
            self.at = digits.end()
        elif self.text[self.at : self.at + 1] == '"':
            quoted = _QUOTED.match(self.text, self.at)
            if not quoted:
                return False
            if _STRING.fullmatch(quoted[0]):
                spelt = trim(decode_string(quoted[0]))
                if _SPELT_INTEGER.fullmatch(spelt):
                    self.counts[name] = _saturated(spelt)
            self.at = quoted.end()
        else:
            self.at = self._value_end(self.at) or self.at + 1
        return True

    def _value_end(self, start: int) -> int | None:
        """Where the well-formed value at `start` ends; None if there is none."""
        if self.text[start : start + 1] in _CLOSING:
            return self._container_end(start)
        value = _SCALAR.match(self.text, start) or _STRING.match(self.text, start)
        return value.end() if value else None

    def _container_end(self, start: int) -> int | None:
        """Where the container opening at `start` ends; None if its brackets do not pair up."""
        if start in self.unbalanced:
            return None
        open_at: list[int] = []
        at = start
        while mark := _BRACKET.search(self.text, at):
            at = mark.end()
            if mark[0] == '"':
                string = _STRING.match(self.text, mark.start())
                if not string:
                    break
                at = string.end()
            elif mark[0] in _CLOSING:
                open_at.append(mark.start())
            elif _CLOSING[self.text[open_at[-1]]] != mark[0]:
                break
            else:
                open_at.pop()
                if not open_at:
                    return at
        self.unbalanced.update(open_at)
        return None


def _saturated(digits: str) -> int:
    """The integer that ASCII digits spell, as far as a counter can tell it from a larger one."""
    # int() refuses text of some thousand digits.
    significant = digits.lstrip("+-").lstrip("0")
    size = int(significant or 0) if len(significant) <= _MOST_DIGITS else MOST_TOKENS
    return -size if digits[0] == "-" else size
