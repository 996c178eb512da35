"""Project identity: golden cases first, then properties that hold for any text.

The golden files in ``golden/identity`` are a contract with other programs that share an archive:
a test that fails here is a change of keys, not a stale file.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core import identity, remotes
from exporter.core.identity import Observation, SessionPlace, WorktreeIndex, WorktreeMapping
from exporter.core.text import trim

GOLDEN = Path(__file__).parents[2] / "golden" / "identity"

quick = settings(max_examples=150, deadline=None, database=None)


def golden(name: str, having: str = "id") -> pytest.MarkDecorator:
    """Parametrise a test with the cases of one golden file that have a field."""
    cases = json.loads((GOLDEN / name).read_text(encoding="utf-8"))
    cases = [case for case in cases if having in case]
    return pytest.mark.parametrize("case", cases, ids=[case["id"] for case in cases])


def observation(fields: dict[str, str], **defaults: str) -> Observation:
    """Build an observation from a golden row, leaving out the columns derived from others."""
    known = Observation.__dataclass_fields__
    row = {"project": "", "machine": "desk"} | defaults | fields
    return Observation(**{name: text for name, text in row.items() if name in known})


def in_order(value: object) -> str:
    """Return JSON text, because comparing dictionaries would not see the order of fields."""
    return json.dumps(value, ensure_ascii=False)


# --- golden cases ---------------------------------------------------------------------------


@golden("remote.json")
def test_a_remote_has_one_normalised_form(case: dict[str, Any]) -> None:
    normalized = remotes.normalize_remote(case["raw"])
    assert remotes.normalized_remote_text(case["raw"]) == case["normalized"]
    assert remotes.normalize_remote(case["raw"].encode()) == normalized
    if "normalized_hex" in case:
        assert normalized is not None and normalized.hex() == case["normalized_hex"]


@golden("remote.json")
def test_a_remote_has_one_storage_form(case: dict[str, Any]) -> None:
    stored = remotes.storage_form(case["raw"])
    assert stored == case["stored"]
    assert remotes.storage_form(stored) == case.get("stored_second_pass", stored)


@golden("remote.json")
def test_raw_and_stored_remote_have_their_keys(case: dict[str, Any]) -> None:
    for text, key in ((case["raw"], case["key"]), (case["stored"], case["stored_key"])):
        found = identity.remote_identity(text)
        assert (found and found.key) == key


@golden("remote.json", having="secret")
def test_a_secret_in_a_remote_is_gone_or_flagged(case: dict[str, Any]) -> None:
    stored = remotes.storage_form(case["raw"])
    assert (case["secret"] in stored) == case["leaks_stored"]
    assert (case["secret"] in (case["normalized"] or "")) == case["leaks_normalized"]
    if case["leaks_stored"]:
        assert remotes.is_suspect(stored)


@golden("root.json")
def test_a_root_path_has_one_normalised_form_and_key(case: dict[str, Any]) -> None:
    found = identity.path_identity(case["path"])
    assert identity.normalize_root_path(case["path"]) == case["normalized"]
    assert (found and found.key) == case["key"]
    assert (found and found.root_path) == case["normalized"]


@golden("select.json")
def test_origin_identifies_a_repository_then_the_first_name_that_can(case: dict[str, Any]) -> None:
    assert remotes.choose_remote(case["remotes"]) == case["name"]


@golden("projects_map.json")
def test_a_label_resolves_by_the_distinct_keys_of_its_observations(case: dict[str, Any]) -> None:
    rows = [observation(row) for row in case["observations"] if case["labels"]]
    for order in permutations(rows):
        projects = identity.resolve_projects(case["labels"], order)
        entries = {label: entry.as_wire() for label, entry in projects.items()}
        assert in_order(entries) == in_order(case["map"])


@golden("legacy_map.json")
def test_an_unknown_label_resolves_by_where_its_sessions_ran(case: dict[str, Any]) -> None:
    asked = [row for row in case["observations"] if row["project"] in case["labels"]]
    projects = identity.resolve_projects(case["labels"], map(observation, asked))
    places = [
        SessionPlace(
            session["project"],
            session["machine"],
            session["cwd"],
            identity.session_directory(session["file_path"] or ""),
        )
        for session in case["sessions"]
        if not session["deleted"]
    ]
    mappings = [WorktreeMapping(**({"layout": "explicit"} | row)) for row in case["mappings"]]
    filled = identity.resolve_from_sessions(projects, places, mappings)
    entries = {label: entry.as_wire() for label, entry in filled.items()}
    assert in_order(entries) == in_order(case["map"])


@golden("worktree.json")
def test_a_session_finds_the_worktree_nearest_above_it(case: dict[str, Any]) -> None:
    for rows in permutations(map(observation, case["observations"])):
        found = identity.match_worktree(case["cwd"], rows)
        shown = found and {"name": found.name, "root_path": found.root_path}
        assert shown == case["worktree"]


@golden("repair.json")
def test_a_repair_brings_rows_into_storage_form_and_leaves_clean_ones(case: dict[str, Any]) -> None:
    table = {row["git_remote"]: row for row in case["rows_before"]}
    for change in identity.plan_repair([observation(row) for row in case["rows_before"]]):
        before = table.pop(change.git_remote)
        if change.row is not None:
            table[change.row.git_remote] = before | stored_columns(change.row)
    derived = {"normalized_remote": "", "key_source": "", "key": ""}
    assert sorted((derived | row for row in table.values()), key=in_order) == sorted(
        (derived | row for row in case["rows_after"]), key=in_order
    )


def stored_columns(row: Observation) -> dict[str, str]:
    """Return the columns a repair changes, derived ones included."""
    found = identity.derive_identity(row.root_path, row.git_remote, row.worktree_root_path)
    assert found is not None
    return {
        "git_remote": row.git_remote,
        "normalized_remote": found.normalized_remote or "",
        "key_source": found.key_source,
        "key": found.key,
    }


# --- any text -------------------------------------------------------------------------------

# Small texts that sit on the edges of the rules, more telling than random characters.
EDGES = st.sampled_from(
    [
        *"abZ09/:@.-_%?#[]\\ ~!$&'()*+,;=<>\"|^`",
        *"\t\n\x1f\x7f\x85\u00a0\u0130ΣςéǅK\u017f\u212a\u2028\ufffd\U0001f600\udcff\ud800",
        *("%25", "%20", "%41", "%C3%89", "%ff", "%2F", "%40", "%3a", "%zz"),
        *("..", ".git", "://", "::"),
    ]
)
JUNK = st.lists(EDGES, max_size=8).map("".join) | st.text(max_size=6)
SCHEMES = st.sampled_from(["https", "http", "ssh", "git", "HTTPS", "Git", "git", "file"])
GOOD_HOSTS = st.sampled_from(
    [
        *("git.example", "Git.Example:22", "h:", "h%C2%A0", "ΟΔΟΣ.example", "br%c3%bcck", "h%25"),
        *("<h>", "[::1]", "[::1]:22", "[fe80::9%25W%20an]", "[fe80::9%25%2525]"),
        "[::ffff:10.0.0.7]",
    ]
)
HOSTS = GOOD_HOSTS | JUNK | st.sampled_from(["h:1:2", "[10.0.0.7]", "[::1%80]", "[::1%25%C3%89]"])
PATHS = st.lists(JUNK, max_size=3).map("/".join)
USERS = JUNK.filter(bool)
REMOTES = st.one_of(
    st.builds("{}://{}/{}".format, SCHEMES, GOOD_HOSTS, PATHS),
    st.builds("{}://{}/{}".format, SCHEMES, HOSTS, PATHS),
    st.builds("{}://{}@{}/{}".format, SCHEMES, USERS, HOSTS, PATHS),
    st.builds("{}:{}".format, HOSTS, PATHS),
    st.builds("{}@{}:{}".format, USERS, HOSTS, PATHS),
    JUNK,
)
STORED = REMOTES.map(remotes.storage_form)
ROOTS = st.builds("{}{}".format, st.sampled_from(["/", "//", "C:/", "c:\\", ""]), PATHS)


@quick
@given(REMOTES)
def test_a_storage_form_keeps_the_key_of_what_it_was_made_from(raw: str) -> None:
    stored = remotes.storage_form(raw)
    if stored:
        assert remotes.normalize_remote(stored) == remotes.normalize_remote(raw)


@quick
@given(STORED)
def test_a_storage_form_is_its_own_unless_a_blank_followed_the_user(stored: str) -> None:
    again = remotes.storage_form(stored)
    assert again == stored or ("://" not in stored and again == remotes.storage_form(again))
    if again != stored:
        assert stored.endswith(again) and not stored[: -len(again)].strip()


@quick
@given(STORED)
def test_a_storage_form_has_no_user_query_or_fragment(stored: str) -> None:
    if "://" in stored:
        authority = stored.split("/", 3)[2]
        assert "@" not in authority
        assert "?" not in stored and "#" not in stored
        assert stored.isascii()
    else:
        assert "@" not in stored


@quick
@given(STORED)
def test_a_storage_form_is_never_dirty(stored: str) -> None:
    assert not remotes.is_dirty(stored)


# A slash right before the @ makes it a name in the path, as in /@scope/package.
SECRETS = USERS.filter(lambda text: not text.endswith("/"))


def with_user(user: str, scheme: str, host: str, path: str) -> tuple[str, str]:
    """Return the two ways to write a remote with user information."""
    return f"{scheme}://{user}@{host}/{path}", f"{user}@{host}:{path}"


@quick
@given(SECRETS, SCHEMES, HOSTS, PATHS)
def test_user_information_is_dirty_or_suspect(user: str, scheme: str, host: str, path: str) -> None:
    for raw in with_user(user, scheme, host, path):
        assert remotes.is_credential_bearing(raw)


@quick
@given(JUNK, SECRETS, SCHEMES, HOSTS, PATHS)
def test_a_secret_that_survives_in_a_storage_form_is_suspect(
    start: str, end: str, scheme: str, host: str, path: str
) -> None:
    secret = f"{start}s3cr3t{end}"
    for raw in with_user(secret, scheme, host, path):
        stored = remotes.storage_form(raw)
        assert secret not in stored or remotes.is_suspect(stored)


@quick
@given(REMOTES)
def test_a_normalised_remote_has_a_clean_path_and_no_empty_part(raw: str) -> None:
    normalized = remotes.normalize_remote(raw)
    if normalized is not None:
        # An scp host may hold slashes itself, so only what follows the last is surely path.
        assert normalized.rpartition(b"/")[2] not in (b"", b".", b"..")


@quick
@given(REMOTES)
def test_bytes_and_text_normalise_alike(raw: str) -> None:
    assert remotes.normalize_remote(remotes.utf8_bytes(raw)) == remotes.normalize_remote(raw)


@quick
@given(st.text(), st.binary())
def test_no_text_makes_a_function_raise(text: str, data: bytes) -> None:
    remotes.normalize_remote(data)
    remotes.is_credential_bearing(remotes.storage_form(text))
    identity.derive_identity(text, text, text)
    identity.match_worktree(text, [Observation("p", "m", text, text, "", text, text)])
    identity.session_directory(text)


@quick
@given(ROOTS)
def test_a_normalised_root_path_is_final_unless_its_last_name_ends_blank(path: str) -> None:
    normalized = identity.normalize_root_path(path)
    if normalized is not None:
        assert "\\" not in normalized and "//" not in normalized
        if normalized == trim(normalized):
            assert identity.normalize_root_path(normalized) == normalized


@quick
@given(PATHS)
def test_cleaning_a_path_is_final_and_keeps_it_rooted_or_relative(path: str) -> None:
    cleaned = remotes.clean_path(path)
    assert remotes.clean_path(cleaned) == cleaned
    assert cleaned.startswith("/") == path.startswith("/")
    assert ".." not in cleaned.split("/") or cleaned.startswith("..")


@quick
@given(st.text())
def test_lower_case_goes_character_by_character(text: str) -> None:
    lowered = remotes.lower(text)
    assert len(lowered) == len(text)
    assert lowered == "".join(map(remotes.lower, text))


@quick
@given(st.binary())
def test_readable_text_marks_each_broken_byte(data: bytes) -> None:
    broken = sum("\udc80" <= c <= "\udcff" for c in data.decode("utf-8", "surrogateescape"))
    marks = data.count("\ufffd".encode())
    assert remotes.readable_text(data).count("\ufffd") == broken + marks


# --- credentials ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stored", ["", "https://h/p", "ssh://[::1]:22/p", "h:p", "./up:stream", "https://h/a+b/c%2Bd"]
)
def test_a_plain_remote_bears_no_credential(stored: str) -> None:
    assert not remotes.is_credential_bearing(stored)


@pytest.mark.parametrize(
    "raw",
    [
        "https://ci:s3cr3t@h/p",
        "HTTPS://h/p",
        "https://h",
        "https://h/p?q",
        "https://h/p#f",
        "https://h/p\n",
        "https://hé/p",
        "file:///p",
        "git@h:p",
        "s3cr3t@h",
    ],
)
def test_what_no_storage_form_looks_like_is_dirty(raw: str) -> None:
    assert remotes.is_dirty(raw)


@pytest.mark.parametrize(
    ("stored", "rules"),
    [
        ("https://h/ci:s3cr3t/p", ("url_path",)),
        ("https://h/s3cr3t@p", ("url_path",)),
        ("https://h/@scope/p", ()),
        ("https://h/p%3Fs3cr3t", ("url_path",)),
        ("https://h/p%3fs3cr3t", ("url_path",)),
        ("https://h/p%2Fq", ()),
        ("https://h:2222/p", ()),
        ("odd:x://h/p", ("url_path",)),
        ("h:p?token", ("scp_path",)),
        ("h:2222:p", ("scp_path",)),
        ("h:p@q", ()),
        ("h:p/q", ()),
        ("no-colon-?", ()),
    ],
)
def test_separators_in_a_path_make_a_remote_suspect(stored: str, rules: tuple[str, ...]) -> None:
    assert remotes.suspect_rules(stored) == rules


# Put together at run time, so that no scanner takes this file for a leak.
TOKENS = [
    ("ghs" + "_", 20),
    ("github" + "_pat_", 20),
    ("gl" + "pat-", 16),
    ("gl" + "soat-", 16),
    ("AT" + "BB", 16),
    ("AK" + "IA", 16),
    ("xo" + "xb-", 10),
    ("np" + "m_", 30),
    ("h" + "f_", 30),
]


@pytest.mark.parametrize(("prefix", "length"), TOKENS, ids=[prefix for prefix, _ in TOKENS])
def test_the_shape_of_a_known_token_makes_a_remote_suspect(prefix: str, length: int) -> None:
    for form in ("https://h/{}/p", "h:{}/p"):
        assert remotes.suspect_rules(form.format(prefix + "A" * length)) == ("token",)
        assert remotes.suspect_rules(form.format(prefix + "A" * (length - 1))) == ()


def test_a_web_token_in_a_path_makes_a_remote_suspect() -> None:
    token = "ey" + "J" + "A" * 10 + ".ey" + "J"
    assert remotes.suspect_rules(f"https://h/{token}") == ("token",)


def test_no_representation_shows_a_remote_or_a_path() -> None:
    row = Observation("p", "m", "/s3cr3t", "https://s3cr3t@h/p", "origin", "w", "/s3cr3t/w")
    shown = [
        row,
        identity.remote_identity("https://h/s3cr3t"),
        identity.path_identity("/s3cr3t"),
        identity.resolve_projects(["p"], [row]),
        identity.plan_repair([row]),
        identity.match_worktree("/s3cr3t/w", [row]),
        SessionPlace("p", "m", "/s3cr3t", "/s3cr3t"),
        WorktreeMapping("m", "/s3cr3t", "explicit", "p"),
    ]
    assert None not in shown
    assert "s3cr3t" not in repr(shown)


# --- resolving ------------------------------------------------------------------------------


def test_labels_come_out_in_the_order_of_their_bytes() -> None:
    labels = ["é", "b", "\U0001f600", "Z", "\uffff", ""]
    assert list(identity.resolve_projects(labels, [])) == sorted(labels, key=str.encode)


def test_a_path_identity_shows_its_fields_in_order_and_is_machine_local() -> None:
    found = identity.derive_identity("/", "", "")
    assert found is not None
    assert list(found.as_wire().items()) == [
        ("key", identity.identity_key("root_path", b"/")),
        ("key_source", "root_path"),
        ("root_path", "/"),
        ("machine_local", True),
    ]


def test_sessions_are_read_once_and_only_for_unknown_labels() -> None:
    seen = [Observation("known", "m", "/a"), Observation("torn", "m", "/a")]
    seen.append(Observation("torn", "m", "/b"))
    projects = identity.resolve_projects(["known", "torn", "new", "blank"], seen)
    stream = iter([SessionPlace(label, "m", "/c") for label in ("known", "torn", "new", "else")])
    filled = identity.resolve_from_sessions(projects, stream, [])
    assert {label: entry.resolution for label, entry in filled.items()} == {
        "blank": "unknown",
        "known": "resolved",
        "new": "resolved",
        "torn": "ambiguous",
    }
    assert filled["known"] == projects["known"]


@pytest.mark.parametrize(
    ("file_path", "directory"),
    [
        ("/home/kit/logs/a.jsonl", "/home/kit/logs"),
        ("/home//kit/../logs/a.jsonl", "/home/logs"),
        ("/a.jsonl", "/"),
        ("logs/a.jsonl", "logs"),
        ("../logs/a.jsonl", "../logs"),
        ("C:\\logs\\a.jsonl", "."),
        ("C:\\logs/a.jsonl", "C:\\logs"),
        (" /logs/a.jsonl", "/logs"),
        ("a.jsonl", "."),
        ("", "."),
    ],
)
def test_the_directory_of_a_session_file_ends_at_its_last_slash(
    file_path: str, directory: str
) -> None:
    assert identity.session_directory(file_path) == directory


MAPPED = WorktreeMapping("m", "/src", "repo_dot_worktrees", "")


@pytest.mark.parametrize(
    ("mapping", "project", "cwd", "root"),
    [
        (MAPPED, "my_app", "/src/my-app.worktrees/x", "/src/my-app.worktrees"),
        (MAPPED, "my_app", "/src/my_app.worktrees/x/y", "/src/my_app.worktrees"),
        (MAPPED, "my-app", "/src/my-app.worktrees/x", "/src/my-app.worktrees/x"),
        (MAPPED, "app", "/src/app.worktrees", "/src/app.worktrees"),
        (MAPPED, "app", "/src/deep/app.worktrees/x", "/src/deep/app.worktrees/x"),
        (MAPPED, "app", "/src/ app .worktrees/x", "/src/ app .worktrees"),
        (MAPPED, "", "/src/.worktrees/x", "/src/.worktrees/x"),
        (replace(MAPPED, path_prefix="/"), "app", "/app.worktrees/x", "/app.worktrees"),
        (replace(MAPPED, layout="", project="app"), "app", "/src/x", "/src"),
        (replace(MAPPED, layout="", project="app", path_prefix="/"), "app", "/src/x", "/"),
        (replace(MAPPED, layout="", project="app", path_prefix=""), "app", "/src/x", "/src/x"),
        (replace(MAPPED, layout="other", project="app"), "app", "/src/x", "/src/x"),
        (replace(MAPPED, layout="", project="app", path_prefix="C:"), "app", "C:/x", "C:/x"),
        (replace(MAPPED, layout="", project="app", path_prefix="C:/x"), "app", "c:/x/y", "C:/x/y"),
        (replace(MAPPED, layout="", project="app", path_prefix="c:/x"), "app", "c:/x/y", "C:/x"),
    ],
)
def test_a_mapping_gives_its_root_to_the_paths_its_layout_covers(
    mapping: WorktreeMapping, project: str, cwd: str, root: str
) -> None:
    roots = identity.MappedRoots([mapping])
    # Blanks around a recorded machine do not hide its mappings.
    for machine in ("m", " m "):
        found = identity.session_identity(SessionPlace(project, machine, cwd), roots)
        assert found is not None and found.root_path == root


def test_a_mapping_of_the_second_path_comes_before_the_first_path_itself() -> None:
    mapping = WorktreeMapping("m", "/z", "explicit", "p")
    place = SessionPlace("p", "m", "/a", "/z/logs")
    found = identity.session_identity(place, identity.MappedRoots([mapping]))
    assert found is not None and found.root_path == "/z"


# --- worktrees and repairs ------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "ab", "..", ".", "", "...", "..a", " "])
TEXT_PATHS = st.builds(
    "{}{}".format,
    st.sampled_from(["/", "", "./", "../"]),
    st.lists(NAMES, max_size=4).map("/".join),
)
ROWS = st.lists(
    st.builds(
        Observation,
        project=st.just("p"),
        machine=st.just("m"),
        root_path=TEXT_PATHS,
        git_remote=st.sampled_from(["", "h:x", "h:y"]),
        worktree_name=st.sampled_from(["", "n", "o"]),
        worktree_root_path=st.just("") | TEXT_PATHS,
    ),
    max_size=4,
    unique_by=lambda row: (row.root_path, row.git_remote),
)


def covers(path: str, cwd: str) -> bool:
    """Compare component by component, which is slow and plain."""
    above, below = ([s for s in p.split("/") if s not in ("", ".")] for p in (path, cwd))
    if path.startswith("/") != cwd.startswith("/") or below[: len(above)] != above:
        return False
    return below[len(above) : len(above) + 1] != [".."]


def nearest_by_scanning(cwd: str, rows: Iterable[Observation]) -> tuple[str, str] | None:
    best: tuple[int, tuple[str, str]] | None = None
    cleaned_cwd = remotes.clean_path(cwd)
    for row in sorted(rows, key=lambda row: (row.root_path, row.git_remote)):
        for path in (row.worktree_root_path, row.root_path):
            cleaned = remotes.clean_path(path)
            if not path or not (row.worktree_name or row.worktree_root_path):
                continue
            if covers(cleaned, cleaned_cwd) and (best is None or len(cleaned) > best[0]):
                best = len(cleaned), (row.worktree_name, row.worktree_root_path)
    return best[1] if best and cleaned_cwd != "." else None


@quick
@given(ROWS, TEXT_PATHS)
def test_looking_up_a_worktree_finds_what_scanning_finds(rows: list[Observation], cwd: str) -> None:
    found = WorktreeIndex(rows).match(cwd)
    shown = found and (found.name or "", found.root_path or "")
    assert shown == nearest_by_scanning(cwd, rows)


@quick
@given(st.lists(REMOTES, max_size=4, unique=True))
def test_after_a_repair_no_row_is_dirty_and_no_key_is_new(raw_remotes: list[str]) -> None:
    table = {raw: Observation("p", "m", "/root", raw) for raw in raw_remotes}
    keys = {remotes.normalize_remote(raw) for raw in raw_remotes}
    for change in identity.plan_repair(list(table.values())):
        del table[change.git_remote]
        if change.row is not None:
            table[change.row.git_remote] = change.row
    assert bool(table) == bool(raw_remotes)
    assert not any(map(remotes.is_dirty, table))
    assert "" not in table or len(table) == 1
    assert {remotes.normalize_remote(remote) for remote in table} <= keys | {None}
