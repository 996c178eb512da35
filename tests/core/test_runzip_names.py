"""Which names are the log's, in any reading, and which are not."""

from __future__ import annotations

import pytest

from exporter.core.runzip import LogRank, Outcome, classify, inspect, log_rank
from exporter.core.runzip.names import is_bad, is_overview, is_unsafe, path_text
from tests.core.test_runzip_builders import CLEAN, LOG_NAME, Part, build

#: Case A17: the table of names, then further readings that some unpacking program has.
SENSITIVE = {
    b"track_activity.jsonl": LogRank.LOG,
    b"a/b/track_activity.jsonl": LogRank.LOG,
    b"/track_activity.jsonl": LogRank.LOG,
    b"../track_activity.jsonl": LogRank.LOG,
    b"run\\track_activity.jsonl": LogRank.LOG,
    b"Track_Activity.JSONL": LogRank.LOG,
    b"track_activity.jsonl.": LogRank.LOG,
    b"track_activity.jsonl ": LogRank.LOG,
    b"track_activity.jsonl\x00.txt": LogRank.LOG,
    b"track_activity.jsonl\x00/foo": LogRank.LOG,
    b"track_activity.jsonl/": LogRank.RESERVED,
    b"track_activity.jsonl/x/y.txt": LogRank.RESERVED,
    b"track_activity_w7_fallback.jsonl": LogRank.FALLBACK,
    b"tmp/track_activity_fallback.jsonl": LogRank.FALLBACK,
    # Control characters are left out by unzip, versions and drive letters cut off.
    b"track_\x07activity.jsonl": LogRank.LOG,
    b"track_activity.jsonl\n": LogRank.LOG,
    b"track_activity.jsonl;1": LogRank.LOG,
    b"track_activity.jsonl. ;1": LogRank.LOG,
    b"c:track_activity.jsonl": LogRank.LOG,
    b"track_activity.jsonl::$DATA": LogRank.RESERVED,
    # Bytes that a lenient decoder drops, or that a file system ignores or folds.
    b"track_\xffactivity.jsonl": LogRank.LOG,
    "track_act\u200bivity.jsonl".encode(): LogRank.LOG,
    "\ufefftrack_activity.jsonl".encode(): LogRank.LOG,
    "track_activity.j\u017fonl".encode(): LogRank.LOG,
    "ü/track_activity.jsonl".encode(): LogRank.LOG,
    b"\x81/track_activity.jsonl": LogRank.LOG,
    b"x\x00y/track_activity.jsonl": LogRank.LOG,
}

HARMLESS = (
    b"my_track_activity.jsonl",
    b"track_activity.json",
    b"track_activity.jsonl.md",
    b"track_activity.jsonl.md/x",
    b"track_activity.jsonl.gz",
    b"track_activity.jsonl2",
    b"track-activity.jsonl",
    b"track_activity",
    b"track_activity_w7.jsonl",
    b"activity_overview.json",
    b"usage_metrics.jsonl",
    b"log.txt",
    b"",
)


@pytest.mark.parametrize("name", SENSITIVE)
def test_a_name_that_could_be_the_logs_is_sensitive(name: bytes) -> None:
    """Every reading counts, and the rank says how the member may be used."""
    assert log_rank(name) is SENSITIVE[name]


@pytest.mark.parametrize("name", HARMLESS)
def test_another_basename_is_not_sensitive(name: bytes) -> None:
    """Neither a suffix nor a prefix is enough."""
    assert log_rank(name) is None


@pytest.mark.parametrize("name", SENSITIVE)
def test_a_sensitive_member_never_stays(name: bytes) -> None:
    """It leaves the archive, and is the log unless only its place is reserved."""
    archive = build(*CLEAN, Part(name, b"secret"))
    assert classify(archive).outcome is Outcome.MIGRATED
    inspected = inspect(archive)
    assert [member.key for member in inspected.kept] == [part.name for part in CLEAN]
    assert (inspected.log is None) == (SENSITIVE[name] is LogRank.RESERVED)


@pytest.mark.parametrize("name", HARMLESS[:-1])
def test_a_harmless_member_stays(name: bytes) -> None:
    """Similar names do not make an archive dirty."""
    verdict = classify(build(Part(name, b"{}")))
    assert verdict.outcome is Outcome.CLEAN


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([b"b/" + LOG_NAME, LOG_NAME, b"a/" + LOG_NAME], LOG_NAME),
        ([b"b/" + LOG_NAME, b"a/" + LOG_NAME], b"a/" + LOG_NAME),
        ([b"a/a/" + LOG_NAME, b"b\\" + LOG_NAME], b"b\\" + LOG_NAME),
        ([LOG_NAME, b"/" + LOG_NAME], LOG_NAME),
        ([b"track_activity_w7_fallback.jsonl", b"a/" + LOG_NAME], b"a/" + LOG_NAME),
        ([LOG_NAME + b"/x", b"a/" + LOG_NAME], b"a/" + LOG_NAME),
    ],
)
def test_the_log_is_the_one_of_lowest_depth_then_byte_order(
    names: list[bytes], chosen: bytes
) -> None:
    """Place and kind decide, not the order in the archive."""
    for order in (names, names[::-1]):
        log = inspect(build(*(Part(name, b"x") for name in order))).log
        assert log is not None
        assert log.key == chosen


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"activity_overview.json", True),
        (b"n/activity_overview.json", True),
        (b"n\\Activity_Overview.json", True),
        (b"old_activity_overview.json", False),
        (b"activity_overview.json/x", False),
        (b"activity_overview.jsonl", False),
    ],
)
def test_the_overview_is_found_by_its_basename(name: bytes, expected: bool) -> None:
    """A suffix test would take the wrong file."""
    assert is_overview(name) is expected


@pytest.mark.parametrize(
    "name", [b"/x", b"\\x", b"C:\\x", b"c:x", b"..", b"../x", b"a/../x", b"a\\..\\x", b"a/..", b"",
             b"\x00a", b" ", b".\x01./x", b"..\x00x", b"\x07/x", b".. /x"],
)  # fmt: skip
def test_a_name_that_could_leave_the_folder_is_unsafe(name: bytes) -> None:
    """Absolute, with a drive, upwards, or no name at all."""
    assert is_unsafe(name)


@pytest.mark.parametrize(
    "name", [b"x", b"a/b", b"a..b", b"...", b"a/...", b".hidden", b"./x", b"10:30.txt", b"\xff"]
)
def test_an_ordinary_name_is_safe(name: bytes) -> None:
    """Dots and colons elsewhere do no harm."""
    assert not is_unsafe(name)


@pytest.mark.parametrize(
    ("name", "bad"),
    [(b"a.txt", False), ("ä".encode(), False), (b"\xff", True), (b"a\x00", True), (b"a\x7f", True)],
)
def test_a_bad_name_is_not_utf8_or_holds_control_bytes(name: bytes, bad: bool) -> None:
    """Only the bytes count, not the flag."""
    assert is_bad(name) is bad


def test_a_path_in_a_note_is_printable_and_short() -> None:
    """A name cannot break a log line, a terminal or the ledger."""
    assert path_text(b"a\n\x1b[31m\xff\x00b") == "a\\n\\x1b[31m\\xff\\x00b"
    assert path_text("ä\u202e".encode()) == "ä\\u202e"
    assert path_text(b"n" * 500) == "n" * 199 + "…"
