"""Nothing of a log reaches whoever may have the snapshot, and serving split plans costs no look."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from exporter.artifacts import store
from exporter.core import runzip
from exporter.core.runzip import directory, layout, members
from exporter.errors import ExporterError
from exporter.jobs import ledger
from exporter.jobs.snapshot_split import SnapshotSplit
from tests.core.test_runzip_builders import CLEAN, LOG_NAME, OVERVIEW_NAME, Part, build, snapshot
from tests.jobs.plans import Plans

MARKERS = 200
REQUESTS = 1000


class Opened:
    """Counts every way into an archive."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for module, name in (
            (runzip, "inspect"), (runzip, "sanitise"), (runzip, "verify"),
            (runzip, "check_members"), (runzip, "read_member"), (layout, "find_end"),
            (layout, "read_entries"), (members, "plain_chunks"), (directory, "find_end"),
            (zipfile, "ZipFile"),
        ):  # fmt: skip
            monkeypatch.setattr(module, name, self._counted(getattr(module, name)))

    def _counted(self, function: Any) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return function(*args, **kwargs)

        return called


# --- No work --------------------------------------------------------------------------------


def test_a_thousand_downloads_and_panels_of_split_plans_open_no_archive(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [plans.add(snapshot(Part(b"n", b"%d" % number))) for number in range(10)]
    bare = plans.add(build(CLEAN[0]))
    plans.run()
    stored = {plan: plans.row(plan)["run_zip_snapshot"] for plan in made}
    opened = Opened(monkeypatch)
    with plans.opened() as conn:
        for turn in range(REQUESTS):
            plan = made[turn % len(made)]
            assert b"".join(map(bytes, store.download(conn, plan))) == stored[plan]
            assert store.overview(conn, plan)["source"] == "column"
        assert store.overview(conn, bare)["has_data"] is False, "not even to look for one"
        assert opened.count == 0
        # The counter does count: a legacy plan is opened.
        legacy = plans.add(snapshot())
        store.download(conn, legacy)
    assert opened.count > 0


# --- No leak --------------------------------------------------------------------------------


def marker(number: int) -> bytes:
    return b"planted-" + hashlib.sha256(b"%d" % number).hexdigest()[:24].encode()


def hiding_places(text: bytes) -> Iterator[bytes]:
    """Archives with the text somewhere that may not be handed out."""
    log = Part(LOG_NAME, b'{"prompt": "' + text + b'"}\n')
    for name in (
        b"x/" + LOG_NAME, b"/" + LOG_NAME, b"../" + LOG_NAME, b"run\\" + LOG_NAME,
        b"Track_Activity.JSONL", LOG_NAME + b" .", LOG_NAME + b"\0.txt",
        b"track_activity_w7_fallback.jsonl", LOG_NAME + b"/part",
    ):  # fmt: skip
        yield build(*CLEAN, replace(log, name=name))
    for method in (0, 8, 12, 14):
        yield build(*CLEAN, replace(log, method=method))
    yield snapshot(log)
    yield snapshot(replace(log, name=b"a/b/" + LOG_NAME))
    yield build(*CLEAN, replace(log, descriptor="<4sIII"))
    yield build(*CLEAN, replace(log, zip64=True))
    yield snapshot(prefix=text * 3)
    yield snapshot(trailing=text * 3)
    yield build(*CLEAN, trailing=text)
    yield snapshot(comment=text)
    yield build(replace(CLEAN[0], comment=text), *CLEAN[1:])
    yield build(CLEAN[0], replace(CLEAN[1], gap=text), *CLEAN[2:])
    yield snapshot(before_directory=text)
    yield build(*CLEAN, replace(log, listed=False))
    yield build(*CLEAN, replace(log, name=b"harmless.json", local_name=LOG_NAME))
    yield build(*CLEAN, Part(b"inner.zip", build(log)))
    yield build(*CLEAN, Part(b"inner.zip", build(log), method=0))
    yield build(*CLEAN, replace(log, crc=1))
    yield build(*CLEAN, log)[:-30]
    yield b"no zip: " + text


def exposed(body: bytes) -> bytes:
    """Everything that somebody who has the body can read: its bytes and those of each member."""
    seen = [body]
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        for info in archive.infolist():
            seen += [info.filename.encode(), info.comment, info.extra, archive.read(info)]
    return b"\n".join(seen)


@pytest.mark.parametrize("storage", ["text", "compact"])
def test_of_two_hundred_planted_texts_none_is_ever_handed_out(plans: Plans, storage: Any) -> None:
    made = []
    for number in range(MARKERS):
        places = list(hiding_places(marker(number)))
        made.append(plans.add(places[number % len(places)]))
    texts = [marker(number) for number in range(MARKERS)]
    before = served(plans, made)
    plans.run(SnapshotSplit(storage))
    after = served(plans, made)
    assert len(before) >= MARKERS // 2 and len(after) >= MARKERS // 2, "most of them are served"
    for body in [*before, *after]:
        found = exposed(body)
        assert [text for text in texts if text in found] == []
        assert b"track_activity" not in found.lower()
    with plans.opened() as conn:
        shown = json.dumps([ledger.quarantined(conn), ledger.status(conn)], default=str).encode()
    assert [text for text in texts if text in shown] == []


def served(plans: Plans, made: list[Any]) -> list[bytes]:
    """Bodies of all plans that are handed out; of a refusal, neither bytes nor their text."""
    bodies = []
    with plans.opened() as conn:
        for plan in made:
            try:
                bodies.append(b"".join(map(bytes, store.download(conn, plan))))
            except ExporterError as error:
                assert "planted" not in str(error)
            panel = json.dumps(store.overview(conn, plan))
            assert "planted" not in panel
    return bodies


def test_the_scan_finds_what_it_looks_for() -> None:
    body = build(Part(OVERVIEW_NAME, b"{}"), Part(b"x", marker(1) * 2))
    assert marker(1) in exposed(body)
