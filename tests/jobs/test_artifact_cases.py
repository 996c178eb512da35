"""What a planning service needs of a plan's artifacts, by the number of the case."""

from __future__ import annotations

import json
import re
import secrets
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from click.testing import CliRunner

from exporter.artifacts import originals, panel, purge, rows, store, tickets, upload
from exporter.artifacts.panel import Call, PanelCache
from exporter.cli.main import cli, run
from exporter.core import runzip
from exporter.errors import BadInput, ExporterError
from tests.core.test_runzip_builders import CLEAN, LOG_DATA, Part, build, snapshot
from tests.jobs.plans import Plans

SECRET = secrets.token_hex(32)
NOW = 1_790_000_000.5
P, Q = UUID(int=1), UUID(int=2)


def forbid(*args: Any, **named: Any) -> None:
    raise AssertionError("content was loaded")


# --- A15, A16: who may download -------------------------------------------------------------


@pytest.fixture
def owned(plans: Plans) -> UUID:
    """A split plan that belongs to ana."""
    plan = plans.add(snapshot())
    plans.set(plan, "user_id", "ana")
    plans.run()
    return plan


def download(plans: Plans, plan: UUID, target: Path, *args: str) -> int:
    url = plans.settings.database_url or ""
    words = ["artifacts", "download", str(plan), "-o", str(target), "--database-url", url]
    return run([*words, *args])


def test_a15_another_users_plan_is_forbidden_and_nothing_is_loaded(
    plans: Plans, owned: UUID, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(store, "download", forbid)
    assert download(plans, owned, tmp_path / "run.zip", "--user", "ben") == 1
    assert "forbidden: plan" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a15_the_owner_has_it_and_an_unknown_plan_is_told_first(
    plans: Plans, owned: UUID, tmp_path: Path
) -> None:
    assert download(plans, owned, tmp_path / "run.zip", "--user", "ana") == 0
    runzip.verify((tmp_path / "run.zip").read_bytes())
    with plans.opened() as conn, pytest.raises(ExporterError, match="there is no plan"):
        rows.require_owner(conn, UUID(int=99), "ana")


def test_a15_a_plan_without_an_owner_is_nobodys(plans: Plans) -> None:
    plan = plans.add(snapshot())
    with plans.opened() as conn, pytest.raises(ExporterError, match="forbidden"):
        rows.require_owner(conn, plan, "")


def test_a15_a_table_without_owners_says_so(plans: Plans) -> None:
    plan = plans.add(snapshot())
    with plans.opened() as conn:
        conn.execute("ALTER TABLE task_item DROP COLUMN user_id")
        with pytest.raises(ExporterError, match="has no user_id"):
            rows.require_owner(conn, plan, "ana")


def test_a16_a_ticket_is_for_one_file_of_one_plan_and_runs_out() -> None:
    ticket = tickets.issue(SECRET, P, "run.zip", now=NOW)
    tickets.check(SECRET, ticket, P, "run.zip", now=NOW)
    tickets.check(SECRET, ticket, P, "run.zip", now=NOW + 899)
    with pytest.raises(ExporterError, match=r"not for run\.zip of plan"):
        tickets.check(SECRET, ticket, Q, "run.zip", now=NOW)
    with pytest.raises(ExporterError, match=r"not for 030-report\.html"):
        tickets.check(SECRET, ticket, P, "030-report.html", now=NOW)
    with pytest.raises(ExporterError, match="has run out"):
        tickets.check(SECRET, ticket, P, "run.zip", now=NOW + 900)
    with pytest.raises(ExporterError, match="not for"):
        tickets.check(secrets.token_hex(32), ticket, P, "run.zip", now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[:-1] + ("0" if t[-1] != "0" else "1"),
        lambda t: str(int(t.partition(".")[0]) + 1) + "." + t.partition(".")[2],
        lambda t: "0" + t,
        lambda t: t.upper() if t.upper() != t else "x" + t,
        lambda t: t + "\n",
        lambda t: t.partition(".")[0],
        lambda t: t.partition(".")[0] + ".",
        lambda t: "",
        lambda t: "." + t.partition(".")[2],
        lambda t: "٣" + t[1:],
    ],
)
def test_a16_an_altered_ticket_is_refused(change: Any) -> None:
    ticket = tickets.issue(SECRET, P, "run.zip", now=NOW)
    with pytest.raises(ExporterError, match="not for"):
        tickets.check(SECRET, change(ticket), P, "run.zip", now=NOW)


def test_a16_the_form_of_a_ticket_is_fixed() -> None:
    import hashlib
    import hmac

    expiry = int(NOW) + 900
    mac = hmac.new(SECRET.encode(), f"{P}:run.zip:{expiry}".encode(), hashlib.sha256).hexdigest()
    assert tickets.issue(SECRET, P, "run.zip", now=NOW) == f"{expiry}.{mac}"


@pytest.mark.parametrize("file", ["track_activity.jsonl", "", "../run.zip", "RUN.ZIP"])
def test_a16_there_are_tickets_for_two_files_only(file: str) -> None:
    with pytest.raises(BadInput):
        tickets.issue(SECRET, P, file, now=NOW)


@pytest.mark.parametrize("secret", ["", "short"])
def test_a16_a_secret_that_could_be_guessed_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(BadInput) as caught:
        tickets.issue(secret, P, "run.zip", now=NOW)
    assert "EXPORTER_DOWNLOAD_SECRET" in str(caught.value)
    assert not secret or secret not in str(caught.value)


def test_a16_a_ticket_from_the_command_line_opens_the_download_and_no_other(
    plans: Plans, owned: UUID, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPORTER_DOWNLOAD_SECRET", SECRET)
    made = CliRunner().invoke(cli, ["artifacts", "ticket", str(owned), "run.zip"])
    ticket = made.stdout.strip()
    assert download(plans, owned, tmp_path / "run.zip", "--ticket", ticket) == 0
    monkeypatch.setattr(store, "download", forbid)
    other = plans.add(snapshot())
    assert download(plans, other, tmp_path / "other.zip", "--ticket", ticket) == 1
    report = ("--ticket", ticket, "--file", "030-report.html")
    assert download(plans, owned, tmp_path / "report.html", *report) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.zip"]


def test_a_report_is_downloadable_of_a_completed_plan_only(plans: Plans, tmp_path: Path) -> None:
    good, failed = plans.add(None), plans.add(None, "failed")
    asked = ("--file", "030-report.html")
    assert download(plans, good, tmp_path / "a.html", *asked) == 0
    assert (tmp_path / "a.html").read_bytes() == b"<html>"
    assert download(plans, failed, tmp_path / "b.html", *asked) == 1


# --- A22, A23: the panel --------------------------------------------------------------------


def test_a22_metric_rows_win_per_field_and_zero_is_a_value() -> None:
    overview = {"total_input_tokens": 7, "total_thinking_tokens": 5, "total_tokens": 12}
    found = panel.assemble(overview, [Call(output_tokens=0)])
    assert [found[name] for name in panel.TOKENS] == [7, 0, 5]
    assert (found["total_tokens"], found["calls"], found["total_cost"]) == (0, 1, None)
    assert found["cost_status"] == "unknown"


def test_a22_the_cost_of_metric_rows_wins_and_is_exact() -> None:
    calls = [Call(Decimal("0.1")), Call(Decimal("0.2")), Call(None)]
    found = panel.assemble({"total_cost": 9.5}, calls)
    assert (found["total_cost"], found["currency"], found["calls"]) == (0.3, "USD", 3)
    free = panel.assemble({"total_cost": 9.5}, [Call(Decimal(0))])
    assert (free["total_cost"], free["cost_status"]) == (0.0, "reported")


def test_a22_without_metric_tokens_the_overview_counts_then_the_sum_of_its_parts() -> None:
    assert panel.assemble({"total_tokens": 12}, [Call()])["total_tokens"] == 12
    assert panel.assemble({"total_input_tokens": 3, "total_output_tokens": 4})["total_tokens"] == 7
    assert panel.assemble({})["total_tokens"] is None


def test_a22_numbers_of_rows_are_cleaned() -> None:
    row = {"cost": "0.75", "input_tokens": "7", "output_tokens": True, "thinking_tokens": -1}
    assert Call.from_row(row) == Call(Decimal("0.75"), 7, None, None)
    odd = {"cost": float("nan"), "input_tokens": 1.5, "output_tokens": "many"}
    assert Call.from_row(odd) == Call()


def test_a_panel_has_data_unless_everything_is_unknown() -> None:
    assert not panel.assemble({})["has_data"]
    assert not panel.assemble({"total_cost": None, "models": {}})["has_data"]
    assert panel.assemble({"total_output_tokens": 0})["has_data"]
    assert panel.assemble({}, [Call()])["has_data"]


def complete(plans: Plans, plan: UUID, cost: float) -> None:
    plans.set(plan, "run_activity_overview_json", json.dumps({"total_cost": cost}))
    plans.set(plan, "run_artifact_layout_version", 2)
    plans.set(plan, "state", "completed")


def test_a23_a_cached_panel_is_of_the_generation_that_is_there(plans: Plans) -> None:
    plan = plans.add(None)
    cache = PanelCache()
    with plans.opened() as conn:
        complete(plans, plan, 2.0)
        first = cache.panel(conn, plan)
        assert (first["total_cost"], first["generation"]) == (2.0, 0)
        assert cache.panel(conn, plan) is first
        plans.set(plan, "state", "failed")
        store.reset(conn, plan)
        assert cache.panel(conn, plan)["has_data"] is False
        complete(plans, plan, 0.3)
        second = cache.panel(conn, plan)
        assert (second["total_cost"], second["generation"]) == (0.3, 1)


def test_a_cache_is_capped_and_knows_its_calls_apart(plans: Plans) -> None:
    cache = PanelCache(size=2)
    with plans.opened() as conn:
        for _ in range(3):
            plan = plans.add(None)
            cache.panel(conn, plan)
        assert len(cache) == 2
        assert cache.panel(conn, plan, [Call(Decimal(1))])["total_cost"] == 1.0
        assert cache.panel(conn, plan)["total_cost"] is None


# --- A28: an administrator's upload ---------------------------------------------------------


def test_a28_an_upload_that_holds_the_log_is_refused_and_never_served(plans: Plans) -> None:
    plan = plans.add(snapshot())
    plans.run()
    before = plans.row(plan)
    with plans.opened() as conn:
        with pytest.raises(ExporterError, match="LOG_PRESENT"):
            upload.put(conn, plan, snapshot())
        with pytest.raises(ExporterError, match="ZIP_NOT_ZIP"):
            upload.put(conn, plan, b"hello")
    assert plans.row(plan) == before


def test_a28_a_clean_upload_takes_the_place_and_counts_on(plans: Plans) -> None:
    plan = plans.add(snapshot())
    plans.run()
    before = plans.row(plan)
    new = build(*CLEAN, Part(b"new.txt", b"new"))
    with plans.opened() as conn:
        assert upload.put(conn, plan, new) == 1
        assert b"".join(map(bytes, store.download(conn, plan))) == new
        assert store.verify(conn) == (1, [])
    row = plans.row(plan)
    changed = {name for name in row if row[name] != before[name]}
    assert changed == {"run_zip_snapshot", "run_generation"}
    kept = [body for kind, _, body in plans.originals(plan) if kind == "snapshot"]
    assert before["run_zip_snapshot"] in kept


def test_a28_an_upload_repairs_a_quarantined_plan(plans: Plans) -> None:
    plan = plans.add(b"hello")
    plans.run()
    assert plans.item(plan)[0] == "quarantined"
    with plans.opened() as conn:
        upload.put(conn, plan, build(*CLEAN))
        assert store.cut_over(conn) == (0, 0)
    assert ("snapshot", "", b"hello") in plans.originals(plan)


def test_a28_a_running_plan_is_left_alone(plans: Plans) -> None:
    plan = plans.add(None, "processing")
    with plans.opened() as conn, pytest.raises(ExporterError, match="a run is at work"):
        upload.put(conn, plan, build(*CLEAN))
    assert plans.row(plan)["run_generation"] == 0


# --- A29: purge -----------------------------------------------------------------------------


def logged(plans: Plans, count: int) -> list[UUID]:
    """Split plans with logs, the first the oldest."""
    found = []
    for number in range(count):
        plan = plans.add(snapshot())
        plans.set(plan, "timestamp_created", f"2026-03-{number + 1:02}")
        found.append(plan)
    plans.run()
    return found


def test_a29_two_of_twelve_logs_go_and_a_later_backfill_leaves_them(plans: Plans) -> None:
    found = logged(plans, 12)
    before = [plans.row(plan) for plan in found]
    with plans.opened() as conn:
        assert purge.purge(conn, 10, is_dry_run=True) == purge.Purged(2, 0, 0, 0)
        assert [plans.row(plan) for plan in found] == before
        assert purge.purge(conn, 10) == purge.Purged(2, 0, 0, 0)
        assert purge.purge(conn, 10) == purge.Purged(0, 0, 0, 0)
    assert dict(plans.run().tally.outcomes) == {}
    for plan, earlier in zip(found[:2], before[:2], strict=True):
        row = plans.row(plan)
        assert row["run_track_activity_jsonl"] is None
        assert row["run_track_activity_bytes"] is None
        assert row["run_track_activity_encoding"] == "purged"
        same = ("run_zip_snapshot", "run_activity_overview_json", "run_artifact_layout_version")
        assert [row[name] for name in same] == [earlier[name] for name in same]
        with plans.opened() as conn, pytest.raises(ExporterError, match="has no log"):
            store.read_log(conn, plan, "")
    assert [plans.row(plan) for plan in found[2:]] == before[2:]


def test_a29_legacy_and_busy_plans_keep_their_logs_and_are_counted(plans: Plans) -> None:
    found = logged(plans, 12)
    plans.set(found[0], "run_artifact_layout_version", None)
    plans.set(found[1], "state", "processing")
    with plans.opened() as conn:
        assert purge.purge(conn, 10) == purge.Purged(0, 1, 1, 1)
    assert all(plans.row(plan)["run_track_activity_jsonl"] for plan in found)


def test_a_purged_log_comes_back_only_with_a_plan_that_is_restored_by_its_id(
    plans: Plans, capsys: pytest.CaptureFixture[str]
) -> None:
    found = logged(plans, 11)
    url = ("--database-url", plans.settings.database_url or "")
    with plans.opened() as conn:
        assert purge.purge(conn, 10).purged == 1
    purged = plans.row(found[0])
    assert run(["jobs", "restore", "--all", *url]) == 3
    assert plans.row(found[0]) == purged
    assert plans.row(found[1])["run_zip_snapshot"] == snapshot()
    assert "was purged" in capsys.readouterr().err
    assert run(["jobs", "restore", str(found[0]), *url]) == 0
    assert "back inside its snapshot" in capsys.readouterr().err
    assert plans.row(found[0])["run_zip_snapshot"] == snapshot()


def test_a29_the_command_takes_the_listed_numbers_only(plans: Plans) -> None:
    url = plans.settings.database_url or ""
    assert run(["artifacts", "purge", "--keep", "11", "--database-url", url]) == 2
    assert run(["artifacts", "purge", "--database-url", url]) == 0


# --- A30: a row as JSON ---------------------------------------------------------------------


def shown(plans: Plans, plan: UUID, *names: str) -> dict[str, Any]:
    with plans.opened() as conn:
        return rows.show(conn, plan, names).fields


def test_a30_a_row_as_json_has_no_denied_field_but_says_what_is_there(plans: Plans) -> None:
    plan = plans.add(snapshot())
    plans.run()
    found = shown(plans, plan)
    assert not {"run_zip_snapshot", "run_track_activity_jsonl"} & set(found)
    assert found["has_run_zip_snapshot"] is True
    assert found["run_zip_snapshot_bytes"] == len(plans.row(plan)["run_zip_snapshot"])
    assert found["has_run_track_activity_jsonl"] is True
    assert found["has_run_track_activity_ref"] is False
    assert found["run_track_activity_bytes"] == len(LOG_DATA)
    assert (found["state"], found["prompt"], found["run_generation"]) == ("completed", "p", 0)
    assert LOG_DATA.decode()[:20] not in json.dumps(found)


@pytest.mark.parametrize(
    "name", ["run_zip_snapshot", "run_track_activity_jsonl", "run_track_activity_ref"]
)
def test_a30_asking_for_a_denied_field_is_an_error_that_names_it(
    plans: Plans, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = plans.settings.database_url or ""
    words = ["artifacts", "show", str(plans.add(None)), "--database-url", url]
    assert run([*words, "--field", "state", "--field", name]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{name} is never shown" in said.err
    assert run([*words, "--field", "nonsense"]) == 2
    assert run([*words, "--field", "state", "--json"]) == 0
    assert capsys.readouterr().out == '{"state":"completed"}\n'


def test_a30_what_is_inside_a_json_column_is_data(
    plans: Plans, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plans.add(None)
    plans.set(plan, "parameters", json.dumps({"body": "of the mail"}))
    url = plans.settings.database_url or ""
    words = ["artifacts", "show", str(plan), "--field", "parameters", "--database-url", url]
    assert run([*words, "--json"]) == run(words) == 0
    assert capsys.readouterr().out == (
        '{"parameters":{"body":"of the mail"}}\nparameters  {"body":"of the mail"}\n'
    )


def test_a30_a_new_column_that_looks_like_a_log_is_denied_unasked(plans: Plans) -> None:
    plan = plans.add(None)
    with plans.opened() as conn:
        conn.execute("ALTER TABLE task_item ADD old_track_activity_text text DEFAULT 'secret'")
        conn.execute("ALTER TABLE task_item ADD picture bytea DEFAULT 'secret'")
    found = shown(plans, plan)
    assert "secret" not in json.dumps(found)
    assert found["has_old_track_activity_text"] is True
    assert found["picture_bytes"] == 6
    with pytest.raises(BadInput, match="old_track_activity_text is never shown"):
        shown(plans, plan, "old_track_activity_text")


class Recording:
    """A connection that keeps what it was asked."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn
        self.asked: list[str] = []

    def execute(self, statement: Any, *args: Any) -> Any:
        self.asked.append(statement.as_string(self.conn))
        return self.conn.execute(statement, *args)


def test_a30_denied_columns_are_never_selected_only_asked_whether_they_are_there(
    plans: Plans,
) -> None:
    plan = plans.add(snapshot())
    with plans.opened() as conn:
        recording = Recording(conn)
        rows.show(cast(Any, recording), plan)
        rows.show(cast(Any, recording), plan, ["state"])
    everything, one = (text for text in recording.asked if "to_json" in text)
    assert "*" not in everything
    told = re.sub(r'"p"\."\w+" IS NOT NULL|octet_length\("p"\."\w+"\)', "", everything)
    assert 'p"."generated_report_html"' in told
    assert not re.search(r'"p"\."run_(zip|track_activity_(jsonl|ref))', told)
    assert 'SELECT "p"."state" FROM' in one


# --- Originals ------------------------------------------------------------------------------


def test_an_original_is_read_on_the_record_and_never_listed_with_its_bytes(plans: Plans) -> None:
    plan = plans.add(snapshot())
    plans.run()
    with plans.opened() as conn:
        (one,) = originals.listed(conn, plan)
        assert tuple(one) == originals.FACTS
        assert originals.read(conn, one["original"], "repair") == snapshot()
        read = conn.execute("SELECT plan_id, kind, bytes, purpose FROM artifact_reads").fetchall()
        assert read == [(plan, "original snapshot", len(snapshot()), "repair")]
        with pytest.raises(ExporterError, match="there is no original"):
            originals.read(conn, 10**9, "")
