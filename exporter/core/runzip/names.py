"""What a member's name means: is it the log, the overview, unsafe to unpack, or malformed.

Programs that unpack archives disagree about names. One stops at a NUL byte, another drops
control characters, a third splits at backslashes, strips a drive letter or a ``;1`` version,
folds case or trims dots. A name is the log as soon as any of these readings makes it the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntEnum

__all__ = [
    "LOG_WORD",
    "LogRank",
    "depth",
    "is_bad",
    "is_overview",
    "is_unsafe",
    "is_utf8",
    "log_rank",
    "path_text",
    "until_nul",
]

#: Every sensitive name holds it once control characters are gone, whatever its case.
LOG_WORD = b"track_activity"
_OVERVIEW_WORD = b"activity_overview"

_CONTROLS = bytes(range(0x20)) + b"\x7f"
#: What is left of a sensitive name without these holds the word, whatever stood in between; but
#: for the "k", for which there is a sign outside ASCII too.
_NOT_IN_WORD = bytes(set(range(0x100)) - set(b"track_activity" + b"TRACK_ACTIVITY"))
_LOG_WORD_WITHOUT_K = LOG_WORD.replace(b"k", b"")
#: Control characters, and the characters that some file systems ignore when they compare names.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u206a-\u206f\ufeff]"
)
# A colon separates a drive from a path and a file from its alternate stream, so on some system
# the piece between two separators is a file of its own.
_LOG = re.compile(
    r"(?:^|[/\\:])track_activity(?P<fallback>(?:_[^/\\:]*)?_fallback)?\.jsonl"
    r"(?:[\s.]|;[0-9]+)*(?=(?P<rest>[/\\:]?))"
)
_OVERVIEW = re.compile(r"(?:^|[/\\])activity_overview\.json[\s.]*$")
_UNSAFE = re.compile(rb"\s*(?:[/\\]|[A-Za-z]:|$)|(?:.*[/\\])?\.\.\s*(?:[/\\]|$)", re.DOTALL)


class LogRank(IntEnum):
    """How a sensitive name may be used; the lowest comes first when the log is chosen."""

    LOG = 0
    #: The fallback log that a worker writes outside the run directory.
    FALLBACK = 1
    #: A directory with a reserved name, or what is below it. Sensitive, but never *the* log.
    RESERVED = 2


def until_nul(name: bytes) -> bytes:
    """Return the part before the first NUL byte, where several readers stop."""
    return name.partition(b"\0")[0]


def log_rank(name: bytes) -> LogRank | None:
    """Return how a name is sensitive, or None when no reading makes it so."""
    letters = name.translate(None, _NOT_IN_WORD).lower()
    if LOG_WORD not in letters and _LOG_WORD_WITHOUT_K not in letters:
        return None
    ranks = [rank for text in _readings(name) for rank in _log_ranks(text)]
    return min(ranks, default=None)


def is_overview(name: bytes) -> bool:
    """Tell whether the basename is that of the overview, in any reading."""
    if name.isascii() and _OVERVIEW_WORD not in name.translate(None, _CONTROLS).lower():
        return False
    return any(_OVERVIEW.search(text) for text in _readings(name))


def is_unsafe(name: bytes) -> bool:
    """Tell whether unpacking could leave the target folder, or has no file to write to."""
    parts = {name, until_nul(name)}
    return any(_UNSAFE.match(part.translate(None, _CONTROLS)) for part in parts)


def is_bad(name: bytes) -> bool:
    """Tell whether the name is not UTF-8 or holds control bytes."""
    if len(name.translate(None, _CONTROLS)) != len(name):
        return True
    return not is_utf8(name)


def is_utf8(name: bytes) -> bool:
    """Tell whether the bytes are valid UTF-8."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def depth(name: bytes) -> int:
    """Count the separators of either kind; a file of the run directory itself has none."""
    return name.count(b"/") + name.count(b"\\")


def path_text(name: bytes, limit: int = 200) -> str:
    """Return a name as printable text of about `limit` characters, for a note or a ledger."""
    text = name[: 4 * limit].decode(errors="backslashreplace")
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return escaped if len(escaped) <= limit else escaped[: limit - 1] + "…"


def _readings(name: bytes) -> Iterator[str]:
    """Yield the folded text of every way to read the bytes.

    Reading them as Latin-1 keeps each byte; ASCII letters come out alike under any of the old
    code pages, so one stands for all. Only Unicode has other letters that fold into ASCII.
    """
    for part in {name, until_nul(name)}:
        yield _INVISIBLE.sub("", part.decode("latin-1")).casefold()
        if not part.isascii():
            yield _INVISIBLE.sub("", part.decode(errors="ignore")).casefold()


def _log_ranks(text: str) -> Iterator[LogRank]:
    for found in _LOG.finditer(text):
        if found["rest"]:
            yield LogRank.RESERVED
        elif found.end() == len(text):
            yield LogRank.FALLBACK if found["fallback"] else LogRank.LOG
