"""Acceptance cases 47 to 65 of the session export: order, pages, and cursors that hold or reset."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hmac import digest
from pathlib import Path
from typing import Any

import psycopg
import pytest

from exporter.core.cursor import Filters
from exporter.db.connect import read_snapshot
from exporter.errors import CursorReset, ExporterError
from exporter.exports.sessions import Request, open_export
from tests.archives.builder import SqliteArchive
from tests.archives.pipeline import Pipeline
from tests.interop.origin import Result
from tests.interop.ours import Ours

#: Signs tokens of nobody's: the empty key, a run of zeros, words that anybody would try.
CONSTANTS = [b"", bytes(32), b"secret", b"agentsview", b"exporter", b"cursor_secret"]


def is_reset(result: Result) -> bool:
    """Exit 4 with nothing on stdout and one object on stderr."""
    if result.exit != 4:
        return False
    assert result.stdout == ""
    assert json.loads(result.stderr)["error"] == "cursor_reset"
    return True


def five(world: Pipeline, **columns: Any) -> None:
    """Sessions a to e, the latest first, a day between one and the next."""
    with world.source() as archive:
        for number, name in enumerate("abcde"):
            archive.add_session(name, ended_at=f"2026-03-{20 - number}T10:00:00Z", **columns)


def forged(token: str, secret: bytes, **changes: Any) -> str:
    """The token with other members, signed with this secret."""
    members = json.loads(urlsafe_b64decode(token.partition(".")[0] + "=="))
    payload = json.dumps({**members, **changes}, separators=(",", ":")).encode()
    parts = (payload, digest(secret, payload, "sha256"))
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def secret_of(world: Pipeline) -> bytes:
    """What the archive signs its cursors with."""
    row = world.conn.execute("SELECT cursor_secret FROM archive").fetchone()
    assert row is not None
    return bytes(row[0])


# --- Order ----------------------------------------------------------------------------------


def test_case_47_a_fraction_later_is_later(world: Pipeline) -> None:
    """As text, the point would sort before the Z."""
    with world.source() as archive:
        archive.add_session("a", ended_at="2026-03-04T07:15:09Z")
        archive.add_session("b", ended_at="2026-03-04T07:15:09.4Z")
    assert world.ids() == ["b", "a"]


@pytest.mark.parametrize(("a", "b"), [("7714", "7710"), ("7710", "7714")])
def test_case_48_times_of_one_millisecond_tie(world: Pipeline, a: str, b: str) -> None:
    with world.source() as archive:
        archive.add_session("b", ended_at=f"2026-03-04T07:15:09.{b}Z")
        archive.add_session("a", ended_at=f"2026-03-04T07:15:09.{a}Z")
        archive.add_session("up", ended_at="2026-03-04T07:15:09.9996Z")
        archive.add_session("next second", ended_at="2026-03-04T07:15:10Z")
        archive.add_session("zz", ended_at="2026-03-04T07:15:09.999Z")
    assert world.ids() == ["next second", "up", "zz", "a", "b"]


def test_case_49_ids_are_ordered_by_bytes(world: Pipeline) -> None:
    with world.source() as archive:
        for name in ("é", "a1", "Z9", "\U0001f426", "\uff5e"):
            archive.add_session(name)
    assert world.ids() == ["Z9", "a1", "é", "\uff5e", "\U0001f426"]


# --- Pages ----------------------------------------------------------------------------------


def test_case_50_the_last_page_has_no_cursor(world: Pipeline) -> None:
    five(world)
    assert world.export("--limit", "5")["cursor"] == {"next": ""}
    assert world.export("--limit", "4")["cursor"]["next"]


def test_case_51_the_page_size_is_that_of_each_call(world: Pipeline) -> None:
    five(world)
    last = world.export("--cursor", world.cursor("--limit", "2"))
    assert [row["id"] for row in last["sessions"]] == ["c", "d", "e"]
    assert last["cursor"] == {"next": ""}


def test_case_52_the_cursor_carries_the_filters(world: Pipeline) -> None:
    with world.source() as archive:
        for number, project in enumerate(("tern", "kelp", "tern", "kelp", "tern")):
            archive.add_session(
                f"{project} {number}",
                project=project,
                ended_at=f"2026-03-{20 - number}T10:00:00Z",
            )
    cursor = world.cursor("--project", "tern", "--limit", "1")
    assert world.ids("--cursor", cursor) == ["tern 2", "tern 4"]


def test_case_53_the_framing_may_change_between_pages(world: Pipeline) -> None:
    five(world)
    cursor = world.cursor("--limit", "3")
    result = world.sessions("--cursor", cursor, "--format", "ndjson")
    assert result.exit == 0
    assert [json.loads(line).get("id") for line in result.stdout.splitlines()] == [None, "d", "e"]


# --- Changes between pages ------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--include-children",)], ids=["default", "trees"])
def test_case_54_newer_sessions_wait_for_the_next_run(
    world: Pipeline, flags: tuple[str, ...]
) -> None:
    five(world)
    cursor = world.cursor(*flags, "--limit", "2")
    with world.source() as archive:
        archive.add_session("new", ended_at="2026-03-20T10:00:00.001Z")
    assert world.ids("--cursor", cursor) == ["c", "d", "e"]
    assert world.ids(*flags) == ["new", *"abcde"]


@pytest.mark.parametrize(
    "ended_at",
    ["2026-03-20T10:00:00Z", "2026-03-19T23:00:00Z", "2026-03-16T10:00:00Z", "1999-12-31"],
    ids=["at the watermark", "among the emitted", "at the end", "below the end"],
)
def test_case_55_late_arrivals_reset(world: Pipeline, ended_at: str) -> None:
    five(world)
    cursor = world.cursor("--limit", "2")
    with world.source() as archive:
        archive.add_session("z", ended_at=ended_at)
    assert is_reset(world.sessions("--cursor", cursor))


@pytest.mark.parametrize("flags", [(), ("--include-children",)], ids=["default", "trees"])
def test_case_55_a_late_arrival_that_changes_again_resets(
    world: Pipeline, flags: tuple[str, ...]
) -> None:
    """What it looked like when it came is no earlier state of the run."""
    five(world)
    cursor = world.cursor(*flags, "--limit", "2")
    for project in ("tern", "kelp"):
        with world.source() as archive:
            archive.delete_session("z")
            archive.add_session("z", ended_at="2026-03-18T23:00:00Z", project=project)
    assert is_reset(world.sessions("--cursor", cursor))


ENTERS_OR_LEAVES: dict[str, dict[str, Any]] = {
    "moves above the watermark": {"ended_at": "2026-03-25T10:00:00Z"},
    "moves within the run": {"ended_at": "2026-03-17T12:00:00Z"},
    "is deleted": {"deleted_at": "2026-03-26T00:00:00Z"},
    "is emptied": {"message_count": 0},
    "becomes automated": {"is_automated": 1},
    "becomes a one-shot": {"user_message_count": 1},
    "becomes a fork": {"relationship_type": "fork"},
    "stops matching": {"outcome": "errored"},
}


@pytest.mark.parametrize("name", ["a", "e"], ids=["emitted", "pending"])
@pytest.mark.parametrize("change", ENTERS_OR_LEAVES)
def test_case_56_leaving_or_moving_resets(world: Pipeline, name: str, change: str) -> None:
    five(world)
    cursor = world.cursor("--outcome", "completed", "--limit", "2")
    with world.source() as archive:
        archive.update_session(name, **ENTERS_OR_LEAVES[change])
    assert is_reset(world.sessions("--cursor", cursor))


@pytest.mark.parametrize("name", ["a", "e"], ids=["emitted", "pending"])
def test_case_56_vanishing_or_a_new_message_resets(world: Pipeline, name: str) -> None:
    """A session without an end is as late as its last message."""
    five(world)
    with world.source() as archive:
        archive.update_session(name, ended_at=None)
        archive.add_message(name, timestamp=f"2026-03-{'20' if name == 'a' else '16'}T10:00:00Z")
    cursor = world.cursor("--limit", "2")
    with world.source() as archive:
        archive.add_message(name, timestamp="2026-03-25T10:00:00Z")
    assert is_reset(world.sessions("--cursor", cursor))
    cursor = world.cursor("--limit", "2")
    with world.source() as archive:
        archive.delete_session(name)
    assert is_reset(world.sessions("--cursor", cursor))


def test_case_57_usage_counts_and_prices_may_change(world: Pipeline) -> None:
    five(world)
    with world.source() as archive:
        archive.add_price("orca-large-2", output=10)
        archive.add_message("e", model="orca-large-2", token_usage={"output_tokens": 100})
    cursor = world.cursor("--limit", "2")
    with world.source() as archive:
        archive.execute("UPDATE messages SET token_usage = '{\"output_tokens\":3000}'")
        archive.execute("UPDATE model_pricing SET output_per_mtok = 50")
        archive.update_session("e", message_count=9, user_message_count=4, peak_context_tokens=77)
    rows = world.rows("--cursor", cursor)
    assert list(rows) == ["c", "d", "e"]
    assert (rows["e"]["message_count"], rows["e"]["turn_count"]) == (9, 4)
    assert rows["e"]["peak_context_tokens"] == 77
    assert rows["e"]["model_usage"]["output_tokens"] == 3000
    assert rows["e"]["model_usage"]["cost_usd"] == 0.15


@pytest.mark.parametrize("flags", [(), ("--include-children",)], ids=["default", "trees"])
def test_case_57_another_source_may_take_a_session_over(
    world: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    """Its copy has more messages, and the same id, activity and text."""
    five(world)
    cursor = world.cursor(*flags, "--limit", "2")
    monkeypatch.setattr(world, "path", tmp_path / "sessions.db")
    with world.source() as archive:
        archive.set_metadata("database_id", "0d9f4c3e-27a5-4c55-8d3c-6f0a1b2c3d4e")
        archive.add_session("d", ended_at="2026-03-17T10:00:00Z", message_count=9, project="kelp")
    rows = world.rows("--cursor", cursor)
    assert list(rows) == ["c", "d", "e"]
    assert (rows["d"]["project"], rows["d"]["message_count"]) == ("kelp", 9)


@pytest.mark.parametrize("end", ["2026-03-17T10:00:00.000Z", "2026-03-17T12:00:00+02:00"])
def test_case_58_the_same_instant_spelt_anew_resets(world: Pipeline, end: str) -> None:
    five(world)
    cursor = world.cursor("--limit", "2")
    with world.source() as archive:
        archive.update_session("d", ended_at=end)
    assert is_reset(world.sessions("--cursor", cursor))


# --- Tokens ---------------------------------------------------------------------------------


def test_case_59_tokens_that_we_did_not_sign_reset(world: Pipeline) -> None:
    five(world)
    token = world.cursor("--limit", "2")
    head, _, tail = token.partition(".")
    place = len(head) // 2
    changed = head[:place] + ("A" if head[place] != "A" else "B") + head[place + 1 :]
    tokens = [f"{changed}.{tail}", f"{head}.", f".{tail}", f"{token}.", f"{token}A", head]
    tokens += [forged(token, secret) for secret in (*CONSTANTS, secret_of(world)[::-1])]
    for wrong in tokens:
        assert is_reset(world.sessions("--cursor", wrong)), wrong
    assert world.ids("--cursor", forged(token, secret_of(world))) == ["c", "d", "e"]


def test_case_60_a_token_of_another_archive_resets_with_our_id(world: Pipeline) -> None:
    """Both archives sign alike; the id inside tells them apart."""
    five(world)
    other = "0d9f4c3e-27a5-4c55-8d3c-6f0a1b2c3d4e"
    token = forged(world.cursor("--limit", "2"), secret_of(world), database_id=other)
    result = world.sessions("--cursor", token)
    assert is_reset(result)
    assert json.loads(result.stderr)["database_id"] == world.export()["database_id"] != other


def test_case_61_a_signed_token_of_another_order_is_an_ordinary_error(world: Pipeline) -> None:
    five(world)
    order = "last_activity_at ASC, id ASC"
    token = forged(world.cursor("--limit", "2"), secret_of(world), order=order)
    result = world.sessions("--cursor", token)
    assert (result.exit, result.stdout) == (1, "")
    assert result.stderr.startswith("fatal: ")
    assert "{" not in result.stderr


def test_case_62_an_export_never_makes_the_id(world: Pipeline, database_url: str) -> None:
    five(world)
    token = world.cursor("--limit", "2")
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("DELETE FROM exporter.archive")
        for cursor in ("nonsense", token, ""):
            result = world.sessions("--cursor", cursor, "--database-url", database_url)
            assert (result.exit, result.stdout) == (1, "")
            assert result.stderr.startswith("fatal: database id missing")
            assert "exporter db upgrade" in result.stderr
        assert other.execute("SELECT count(*) FROM exporter.archive").fetchone() == (0,)


# --- Everything at once ---------------------------------------------------------------------


def test_case_63_all_joins_the_pages_into_one_document(world: Pipeline) -> None:
    with world.source() as archive:
        for number, model in enumerate(("orca-large-2", "tern-mini", "grebe-nano")):
            archive.add_price(model, output=number + 1)
            name = archive.add_session(project=model, ended_at=f"2026-03-0{number + 1}T10:00:00Z")
            archive.add_message(name, model=model, token_usage={"output_tokens": 5})
    result = world.sessions("--all", "--limit", "1")
    assert (result.exit, result.stderr, result.stdout.count("\n")) == (0, "", 1)
    document = json.loads(result.stdout)
    assert document == world.export()
    assert document["cursor"] == {"next": ""}
    models = ["grebe-nano", "orca-large-2", "tern-mini"]
    assert list(document["pricing"]["models"]) == list(document["projects"]) == models
    assert len(document["sessions"]) == 3
    assert document["pricing"]["digest"] == world.export("--limit", "1")["pricing"]["digest"]


def test_case_64_all_is_one_snapshot_and_sees_no_change_under_way(world: Pipeline) -> None:
    """Our own rule: the program that the contract comes from may have to restart instead."""
    five(world)
    before = world.sessions("--all", "--format", "ndjson").stdout.splitlines()[1:]
    with read_snapshot(world.conn):
        answer = open_export(world.conn, Request(everything=True))
        first = next(answer.rows)
        with SqliteArchive(world.path) as archive:
            archive.update_session("e", ended_at="2026-03-25T10:00:00Z", project="kelp")
            archive.delete_session("c")
        Ours(world.url).bring(world.path)
        rows = b"".join([first, *answer.rows]).decode().splitlines()
    assert rows == before
    assert answer.head["cursor"] == {"next": ""}
    assert world.ids("--all") == ["e", "a", "b", "d"]


def test_case_65_filters_beside_a_cursor_must_be_its_own(world: Pipeline) -> None:
    with world.source() as archive:
        for number, machine in enumerate(("oak", "elm", "fir", "oak")):
            archive.add_session(machine=machine, ended_at=f"2026-03-0{number + 1}T10:00:00Z")

    def following(machine: str | None, cursor: str) -> str:
        filters = None if machine is None else Filters.from_options(machine=machine)
        with read_snapshot(world.conn):
            answer = open_export(world.conn, Request(filters, cursor, limit=1))
            assert len(list(answer.rows)) == 1
            return str(answer.head["cursor"]["next"])

    token = following(" oak, elm ", "")
    assert following("elm,oak", token)
    assert following(None, token)
    for machine in ("elm", ""):
        with pytest.raises(ExporterError, match="filters beside the cursor") as caught:
            following(machine, token)
        assert not isinstance(caught.value, CursorReset)
        assert caught.value.exit_code == 1
