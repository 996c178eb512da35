"""Git remotes as text: one comparable form, one storable form, and a test for credentials.

A remote is written in many ways (URL or ``user@host:path``, with or without port, user and
``.git``). This module reduces the spellings to the ``host/path`` that project keys are made of,
and to the form that may be written to an archive. `exporter.core.identity` builds keys on top.

The rules are those of schema version 1: any change of a result is a new version, because keys
are compared across archives. The URL rules follow one particular URL reader, stricter than the
standard library in some places and laxer in others, so no URL parser of the library is used.

Inside, text that is not UTF-8 travels as surrogate escapes; `normalize_remote` gives bytes,
because a percent-decoded path need not be UTF-8 and the key hashes the bytes as they are.

Nothing here raises on any input, and no representation shows a remote: it may hold a password.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote_from_bytes, unquote_to_bytes

from exporter.core.text import trim, utf8_bytes

__all__ = [
    "SuspectRule",
    "choose_remote",
    "clean_path",
    "hide_credentials",
    "is_credential_bearing",
    "is_dirty",
    "is_drive_path",
    "is_suspect",
    "lower",
    "normalize_remote",
    "normalized_remote_text",
    "readable_text",
    "storage_form",
    "suspect_rules",
]

SuspectRule = Literal["url_path", "scp_path", "token"]

_DRIVE: Final = re.compile(r"[A-Za-z]:[/\\]")

# Bytes that stand in a host as they are, the ones a re-written path keeps, and the ones that
# let a path be kept byte for byte. Letters and digits are left out; all three include them.
_HOST_MARKS: Final = "!\"$&'()*+,-.;<=>[]_~:"
_QUOTED_PATH_MARKS: Final = "$&+,-./:;=@_~"
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9!$&'()*+,\-./:;=@\[\]_~%]*")

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# re.ASCII keeps the case folding away from the long s and the Kelvin sign.
_URL: Final = re.compile(r"(https?|ssh|git)://([^/?]*)([^?]*)", re.IGNORECASE | re.ASCII)
_USER_INFO: Final = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
_PORT: Final = re.compile(r":[0-9]*")
_PORT_AT_END: Final = re.compile(r":[0-9]*\Z")
_HOST_CHARACTER: Final = rf"[A-Za-z0-9{re.escape(_HOST_MARKS)}]|[^\x00-\x7f]"
_HOST: Final = re.compile(rf"(?:{_HOST_CHARACTER}|%25|%[89A-Fa-f][0-9A-Fa-f])*")
_ZONE: Final = re.compile(rf"(?:{_HOST_CHARACTER}|%[0-7][0-9A-Fa-f])+")
_ZONE_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_ZONE_ESCAPABLE: Final = re.compile(rf"[A-Za-z0-9{re.escape(_HOST_MARKS)} %]")
_IPV6_TEXT: Final = re.compile(r"[0-9A-Fa-f:.]+")

# The same expressions as the archive's SQL predicate, which compares bytes and folds ASCII only.
_STORABLE_URL: Final = re.compile(
    r"(?:https?|ssh|git)://"
    r"[\]A-Za-z0-9!\"$&'()*+,.;<=>\[_~:%-]+/"
    r"[\]A-Za-z0-9!$&'()*+,./:;=@\[_~%-]*"
)
_UP_TO_PATH: Final = re.compile(r"\A[^:]*://[^/]*")
_SUSPECT_PATH: Final = re.compile(r"[^/]@|[:&=;]|%(?:40|3[Aa]|26|3[Dd]|3[Bb]|3[Ff]|23)")
_SUSPECT_SCP_PATH: Final = re.compile(r"[?#&:=;]")
_TOKEN_SHAPES: Final = (
    r"gh[pousr]_[A-Za-z0-9]{20}"
    r"|github_pat_[A-Za-z0-9_]{20}"
    r"|gl(?:pat|rt|dt|ptt|ft|soat|cbt|imt|agent)-[A-Za-z0-9_-]{16}"
    r"|AT(?:ATT|BB|CTT)[A-Za-z0-9_=-]{16}"
    r"|AKIA[0-9A-Z]{16}"
    r"|xox[abprs]-[A-Za-z0-9-]{10}"
    r"|npm_[A-Za-z0-9]{30}"
    r"|hf_[A-Za-z0-9]{30}"
    r"|eyJ[A-Za-z0-9_-]{10,}\.eyJ"
)
_TOKEN: Final = re.compile(_TOKEN_SHAPES)

# More shapes of keys, for everything but the predicate above, which other programs share. A key of
# the `sk-` family needs a long run of letters and digits with a digit early in it: branches begin
# with somebody's initials, too.
_MORE_TOKEN_SHAPES: Final = (
    r"(?<![A-Za-z0-9])sk-(?:(?:ant|proj|svcacct|admin|or|live|test)-[A-Za-z0-9_-]{0,40}?)?"
    r"(?=[A-Za-z0-9]{0,19}[0-9])[A-Za-z0-9]{20}"
    r"|(?<![A-Za-z0-9])sk-(?:ant-(?:api|admin)[0-9]{2}|svcacct)-[A-Za-z0-9_-]{20}"
    r"|(?<![A-Za-z0-9])sk-(?:proj|admin)-(?=[A-Za-z0-9_-]{0,200}[0-9])"
    r"(?=[A-Za-z0-9_-]{0,200}[a-z])(?=[A-Za-z0-9_-]{0,200}[A-Z])[A-Za-z0-9_-]{40}"
    r"|[sr]k_(?:live|test)_[A-Za-z0-9]{16}"
    r"|AIza[A-Za-z0-9_-]{35}"
    r"|ASIA[0-9A-Z]{16}"
    r"|gsk_[A-Za-z0-9]{40}"
    r"|xai-[A-Za-z0-9]{40}"
    r"|pypi-AgE[A-Za-z0-9_-]{20}"
    r"|ya29\.[A-Za-z0-9_-]{20}"
    r"|do[opr]_v1_[a-f0-9]{40}"
    r"|shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}"
)
# With an end to each repetition, so that a search takes time in proportion to the text.
_ANY_TOKEN: Final = re.compile(
    rf"(?:{_TOKEN_SHAPES.replace('{10,}', '{10,600}')}|{_MORE_TOKEN_SHAPES})[A-Za-z0-9_=.-]*"
)
# Each token has one of these in it. Looking for them is ten times as fast as the expression.
_TOKEN_MARKS: Final = (
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "glrt-", "gldt-", "glptt-"),
    *("glft-", "glsoat-", "glcbt-", "glimt-", "glagent-", "ATATT", "ATBB", "ATCTT", "AKIA", "xox"),
    *("npm_", "hf_", "eyJ", "sk-", "sk_", "rk_", "AIza", "ASIA", "gsk_", "xai-", "pypi-", "ya29."),
    *("_v1_", "shpat_", "shpca_", "shppa_", "shpss_"),
)
# Two letters before the colon: one is a drive. One slash: a path may have been cleaned before.
_URL_START: Final = re.compile(r"(?<=[A-Za-z0-9+.-]{2})(:/{1,2})")
_PLAIN_AUTHORITY: Final = re.compile(r"[^:]*(?::[0-9]*)?")
_NETWORK_SCHEMES: Final = "(?:https?|ssh|git|ftps?|wss?)"
_WHOLE_URL: Final = re.compile(rf"\s*{_NETWORK_SCHEMES}:/{{1,2}}", re.IGNORECASE)
# Of a scheme made of several the end is enough: git+https, svn+ssh, sftp.
_NETWORK_SCHEME: Final = re.compile(rf"{_NETWORK_SCHEMES}\Z", re.IGNORECASE)
_FILE_SCHEME: Final = re.compile(r"(?<![A-Za-z0-9+.-])file\Z", re.IGNORECASE)
#: Characters before a colon that are looked at for the scheme.
_SCHEME_LENGTH: Final = 6
_QUERY: Final = re.compile(r"[?#]")
#: Without one of these nothing of a URL goes.
_SEPARATOR: Final = re.compile(r"[@?#]")
_HIDDEN: Final = "***"


@dataclass(frozen=True, slots=True, repr=False)
class _Remote:
    """A remote taken apart: host and path decoded but not yet brought into one form."""

    host: str
    path: str
    #: The storable text these parts came from; not yet checked to be usable by itself.
    stored: str


def lower(text: str) -> str:
    """Return `text` in lower case, character by character and independent of neighbours.

    A final sigma gets no special form and U+0130 becomes a plain ``i``, so the length never
    changes. A byte that is not UTF-8 (a surrogate escape) becomes U+FFFD.
    """
    if text.isascii():
        return text.lower()
    return "".join(map(_lower_character, text))


def _lower_character(character: str) -> str:
    if character == "\u0130":
        return "i"
    return "\ufffd" if "\ud800" <= character <= "\udfff" else character.lower()


def clean_path(path: str) -> str:
    """Return `path` with its ``/``-segments resolved by text alone, without touching a disk.

    Empty and ``.`` segments go, ``..`` removes the segment before it. Above ``/`` there is
    nothing, so a rooted path never climbs out; a relative path keeps the ``..`` it starts with.
    Nothing left is ``/`` or ``.``. A back slash is an ordinary character.
    """
    rooted = path.startswith("/")
    kept: list[str] = []
    for segment in path.split("/"):
        if segment in ("", "."):
            continue
        if segment != "..":
            kept.append(segment)
        elif kept and kept[-1] != "..":
            kept.pop()
        elif not rooted:
            kept.append(segment)
    joined = "/".join(kept)
    return "/" + joined if rooted else joined or "."


def is_drive_path(text: str) -> bool:
    r"""Tell whether `text` starts as a Windows path with a drive does (``C:\`` or ``c:/``)."""
    return _DRIVE.match(text) is not None


def readable_text(value: bytes) -> str:
    """Return UTF-8 bytes as text, with U+FFFD for each byte that is not UTF-8.

    Not the ``replace`` handler, which gives one U+FFFD for a whole broken sequence.
    """
    text = value.decode("utf-8", "surrogateescape")
    if text.isascii():
        return text
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)


def normalize_remote(raw: str | bytes) -> bytes | None:
    """Return the comparable ``host/path`` of a remote, or None for one that is not a network one.

    User, port, query, fragment and scheme are gone, the host is in lower case, the path keeps its
    case and loses one trailing ``.git``. Local paths, ``file:`` URLs, other schemes and anything
    malformed give None. The result may hold bytes that are not UTF-8, and even a password, when
    one was written where a path belongs: see `is_suspect`.
    """
    normalized = _normalized(_as_text(raw))
    return None if normalized is None else utf8_bytes(normalized)


def normalized_remote_text(raw: str | bytes) -> str | None:
    """Return what `normalize_remote` gives as text, U+FFFD for each byte that is not UTF-8.

    For display only: keys are made of the bytes.
    """
    normalized = normalize_remote(raw)
    return None if normalized is None else readable_text(normalized)


def storage_form(raw: str) -> str:
    """Return the form of a remote that may be stored: '' when it cannot serve as a remote.

    User information, query and fragment are removed and the scheme is in lower case; port, letter
    case and the spelling of the path stay. If the result is not empty it normalises as `raw` does.
    """
    text = _as_text(raw)
    remote = _read(text)
    if remote is None or _host_and_path(remote) is None:
        return ""
    if remote.stored != text and _normalized(trim(remote.stored)) is None:
        return ""  # a local path, once the user is gone
    return remote.stored


def choose_remote(remotes: Mapping[str, str]) -> str | None:
    """Return the name of the remote that identifies a repository, None when none can.

    `remotes` maps names to raw texts. ``origin`` comes first, then the names in the order of
    their UTF-8 bytes; the first that normalises wins, even if it has no storage form.
    """
    names = sorted(remotes, key=lambda name: (name != "origin", utf8_bytes(name)))
    return next((name for name in names if normalize_remote(remotes[name]) is not None), None)


def is_dirty(text: str) -> bool:
    """Tell whether a stored remote could not have come out of `storage_form`.

    Such a row may hold user information and is cleared by rewriting it with `storage_form`.
    The answer for '' is no.
    """
    if "://" in text:
        return _STORABLE_URL.fullmatch(text) is None
    return "@" in text


def is_suspect(text: str) -> bool:
    """Tell whether a stored remote may hold a credential that `storage_form` leaves in place.

    Errs on the side of yes: a second colon or an ``=`` in a path is enough.  '' is not suspect.
    """
    return bool(suspect_rules(text))


def suspect_rules(text: str) -> tuple[SuspectRule, ...]:
    """Return the names of the rules that make `text` suspect, in a fixed order, () for none.

    ``url_path`` and ``scp_path``: a character in the path that separates a credential from the
    rest, plain or (URLs) escaped. ``token``: the shape of a well-known access token anywhere.
    """
    fired: list[SuspectRule] = []
    if "://" in text:
        if _SUSPECT_PATH.search(_UP_TO_PATH.sub("", text)):
            fired.append("url_path")
    elif _SUSPECT_SCP_PATH.search(text.partition(":")[2]):
        fired.append("scp_path")
    if _TOKEN.search(text):
        fired.append("token")
    return tuple(fired)


def is_credential_bearing(text: str) -> bool:
    """Tell whether a stored remote is dirty or suspect, that is, must be looked at."""
    return is_dirty(text) or is_suspect(text)


def may_hold_credential(raw: str) -> bool:
    """Whether the text kept of a raw remote could be, or hold, a credential.

    Stricter than `is_suspect`, which sees only stored text: a remote that may not be stored can
    have a comparable form all the same, and a password with a slash in it turns its first part
    into a host. A false alarm costs the remote's text, never its key.
    """
    stored = storage_form(raw)
    if not stored:
        # Its first slash stands where a colon would.
        stored = (normalized_remote_text(raw) or "").replace("/", ":", 1)
    if is_suspect(stored) or _ANY_TOKEN.search(stored):
        return True
    _, separator, rest = trim(raw).partition("://")
    if not separator:
        return False
    authority, _, after = rest.partition("/")
    path = re.split(r"[?#]", after, maxsplit=1)[0]
    is_host = "." in authority.rpartition("@")[2]
    return "@" in after[len(path) :] or ("@" in path and not is_host)


def hide_credentials(text: str) -> str:
    """Return `text` without what looks like a credential: for paths, labels and other plain text.

    Of URLs the user information, the query and the fragment go, wherever in the text they begin (a
    query of a ``file:`` URL is part of a name and stays), and whatever has the shape of an access
    token becomes ``***``. Where a URL may hold a password all the same, ``***`` is left of it.
    Ordinary text comes back as it is. Time is linear in the length.
    """
    if ":/" in text:
        is_url = _WHOLE_URL.match(text) is not None
        text = "".join(_without_secrets(text, is_url))
        start = _WHOLE_URL.match(text) if is_url else None
        if start is not None:
            text = _QUERY.split(text, maxsplit=1)[0]
            if _may_hold_password(text[start.end() :]):
                return _HIDDEN
    for mark in _TOKEN_MARKS:
        if mark in text:
            return _ANY_TOKEN.sub(_HIDDEN, text)
    return text


def _without_secrets(text: str, is_url: bool) -> Iterator[str]:
    """Yield the pieces of `text` that are left when its URLs lose users, queries and fragments.

    A URL ends at white space; in a text that is one, what follows a query goes with it.
    """
    head, *pieces = _URL_START.split(text)
    yield head
    before, is_hiding = head, False
    for mark, piece in zip(pieces[::2], pieces[1::2], strict=True):
        if not is_hiding and not _SEPARATOR.search(piece):
            yield mark + piece
            before = piece
            continue
        word = piece.split(maxsplit=1)[0] if piece[:1].strip() else ""
        rest = piece[len(word) :]
        if not is_hiding:
            bare = shown = _without_user(word)
            # Of a text that is a URL the caller looks at the whole.
            if not (is_url and before is head):
                shown = _without_query(bare, before[-_SCHEME_LENGTH:], mark)
            yield mark + shown
            is_hiding = shown != bare or bare == _HIDDEN
        if is_hiding and (is_url or not rest):
            continue
        is_hiding = False
        yield rest
        before = piece


def _without_user(word: str) -> str:
    """What follows a URL's slashes without user information; ``***`` where that is in doubt."""
    at = word.partition("/")[0].rfind("@")
    if "@" in word[at + 1 :] and not _PLAIN_AUTHORITY.fullmatch(word[at + 1 :].partition("/")[0]):
        at = word.rindex("@")  # a password with a slash in it
    # It may be the query that holds the "@", and then what follows is no host.
    return _HIDDEN if at > 0 and _QUERY.search(word, 0, at) else word[at + 1 :]


def _without_query(bare: str, scheme: str, mark: str) -> str:
    """A URL's text without query and fragment; ``***`` where a password may be left in it.

    `scheme` is the end of what stands before `mark`. After a single slash only the schemes of
    networks are known for one.
    """
    is_network = _NETWORK_SCHEME.search(scheme) is not None
    if not is_network and (mark == ":/" or _FILE_SCHEME.search(scheme)):
        return bare
    shown = _QUERY.split(bare, maxsplit=1)[0]
    return _HIDDEN if is_network and _may_hold_password(shown) else shown


def _may_hold_password(bare: str) -> bool:
    """Whether the host of a URL may be part of a password that has a slash in it."""
    authority, _, path = bare.partition("/")
    return "@" in path and "." not in authority


def _as_text(raw: str | bytes) -> str:
    """Return `raw` trimmed, as text whose only surrogates are escapes of bytes not UTF-8."""
    if isinstance(raw, str) and raw.isascii():
        return trim(raw)
    # The round trip joins escapes that together are a character, as reading the bytes would.
    encoded = raw if isinstance(raw, bytes) else utf8_bytes(raw)
    return trim(encoded.decode("utf-8", "surrogateescape"))


def _normalized(text: str) -> str | None:
    remote = _read(text)
    return None if remote is None else _host_and_path(remote)


def _read(text: str) -> _Remote | None:
    """Take a trimmed remote apart, None when it is local or malformed."""
    if text.startswith("/") or is_drive_path(text):
        return None
    return _read_url(text) if "://" in text else _read_scp(text)


def _host_and_path(remote: _Remote) -> str | None:
    """Bring host and path into the comparable form, None when either is empty."""
    host = lower(trim(remote.host))
    path = trim(remote.path)
    if not host or not path:
        return None
    path = clean_path("/" + path.replace("\\", "/")).strip("/")
    path = path.removesuffix(".git").strip("/")
    return f"{host}/{path}" if path else None


def _read_scp(text: str) -> _Remote | None:
    """Read ``[user@]host:path``; what stands before the last ``@`` is the user."""
    address = text[text.rfind("@") + 1 :]
    host, _, path = address.partition(":")
    return _Remote(host, path, address) if host and path else None


def _read_url(text: str) -> _Remote | None:
    """Read a URL; local files are refused here like every scheme that is not a network one."""
    before_fragment, _, fragment = text.partition("#")
    if _CONTROL.search(before_fragment) or _BAD_ESCAPE.search(fragment):
        return None
    parts = _URL.match(before_fragment)
    if parts is None:
        return None
    scheme, authority, path = parts[1].lower(), parts[2], parts[3]
    user_info, _, host_text = authority.rpartition("@")
    if not _USER_INFO.fullmatch(user_info) or _BAD_ESCAPE.search(user_info + " " + path):
        return None
    host = _decoded_host(scheme, host_text)
    if host is None:
        return None
    decoded_path = _percent_decoded(path)
    if not _PLAIN_PATH.fullmatch(path):
        path = quote_from_bytes(utf8_bytes(decoded_path), safe=_QUOTED_PATH_MARKS)
    stored = f"{scheme}://{quote_from_bytes(utf8_bytes(host), safe=_HOST_MARKS)}{path}"
    return _Remote(_without_port(host), decoded_path, stored)


def _decoded_host(scheme: str, text: str) -> str | None:
    """Check and decode the host text of a URL; port and brackets stay."""
    if "[" in text:
        return _decoded_ip_literal(text)
    # Web addresses allow one colon only; the older schemes take the last one for the port's.
    colon = text.find(":") if scheme in ("http", "https") else text.rfind(":")
    if colon >= 0 and not _PORT.fullmatch(text, colon):
        return None
    return _percent_decoded(text) if _HOST.fullmatch(text) else None


def _decoded_ip_literal(text: str) -> str | None:
    """Check and decode ``[IPv6 address]`` with its optional zone and port."""
    end = text.rfind("]")
    if text.rfind("[") > 0 or end < 0:
        return None
    port = text[end + 1 :]
    address, percent, zone = text[1:end].partition("%25")
    if port and not _PORT.fullmatch(port):
        return None
    if not _is_ipv6(address):
        return None
    if not percent:
        return text
    if not _ZONE.fullmatch(zone) or not all(map(_may_be_escaped, _ZONE_ESCAPE.findall(zone))):
        return None
    return f"[{address}%{_percent_decoded(zone)}]{port}"


def _may_be_escaped(digits: str) -> bool:
    return _ZONE_ESCAPABLE.fullmatch(chr(int(digits, 16))) is not None


def _is_ipv6(text: str) -> bool:
    # Checked first, because the library would take a per cent sign for a zone.
    if not _IPV6_TEXT.fullmatch(text):
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _without_port(host: str) -> str:
    """Remove the port and the brackets of a checked host."""
    bare = _PORT_AT_END.sub("", host)
    if bare.startswith("[") and bare.endswith("]"):
        return bare[1:-1]
    return bare


def _percent_decoded(text: str) -> str:
    """Decode well-formed escapes; bytes that are not UTF-8 become surrogate escapes."""
    if "%" not in text:
        return text
    return unquote_to_bytes(utf8_bytes(text)).decode("utf-8", "surrogateescape")
