"""Text on its way from an archive into PostgreSQL, and the contract's idea of a blank."""

import re
from typing import Final

#: White space that filters and counters drop at both ends: Unicode's, without U+001C to U+001F.
#: `str.strip()` takes those four too, and a branch token ends in U+001F where the branch is empty.
_BLANKS: Final = (
    "\t\n\v\f\r \x85\xa0\u1680"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_REPLACEMENT: Final = "\ufffd"
_FOREIGN_SURROGATE: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def trim(text: str) -> str:
    """Drop white space at both ends, keeping the separators U+001C to U+001F."""
    return text.strip(_BLANKS)


def storable(text: str | bytes) -> tuple[str, bool]:
    """Make text that PostgreSQL can store: (text, whether anything had to be replaced).

    Every byte that is not UTF-8, every lone surrogate and every NUL becomes one U+FFFD. A NUL is
    replaced rather than removed: the damage stays visible, and `a\\0b` does not turn into `ab`,
    which may be another identifier.
    """
    if isinstance(text, bytes):
        # One surrogate per byte: the "replace" handler would merge the bytes of a cut character,
        # and other writers of this format do not.
        text = text.decode("utf-8", "surrogateescape")
    if "\0" not in text and (text.isascii() or _is_utf8(text)):
        return text, False
    return replace_surrogates(text).replace("\0", _REPLACEMENT), True


def replace_surrogates(text: str) -> str:
    """Put U+FFFD for every lone surrogate, so that the text has a UTF-8 form."""
    return _SURROGATE.sub(_REPLACEMENT, text)


def utf8_bytes(text: str) -> bytes:
    """Return `text` as UTF-8, surrogate escapes as the bytes they stand for.

    Any other lone surrogate cannot come from stored text and becomes U+FFFD.
    """
    if text.isascii():
        return text.encode("ascii")
    return _FOREIGN_SURROGATE.sub("\ufffd", text).encode("utf-8", "surrogateescape")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
