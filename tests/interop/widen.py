"""Rows that real archives hold and freshly parsed transcripts do not.

``widen`` adds to an archive, while its program is stopped, one small session for each rule of
the session export: who is eligible, how a tree is walked, what a time text may look like, what
a usage object may hold, how rows are told apart, priced and attributed. Every group is a table
of names and overrides; the id of a session begins with the name of its group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.archives.builder import PgArchive, SqliteArchive

Over = dict[str, Any]
AnyArchive = SqliteArchive | PgArchive

#: A model with a price row, one without, and one whose row equals the built-in one.
PRICED, UNPRICED, BUILT_IN = "orca-large-2", "grebe-nano", "claude-opus-4-6"
PAIR = {"claude_message_id": "msg_pair", "claude_request_id": "req_pair"}


def widen(archive: SqliteArchive) -> None:
    """Add every group of rows but prices."""
    widen_anywhere(archive)
    _add(archive, _times, _order)
    _messages_and_times(archive)
    _duplicates(archive)
    _mapped(archive)


def widen_anywhere(archive: AnyArchive) -> None:
    """Add the groups that no store changes: without odd times, and without mappings."""
    _add(archive, _eligibility, _relations, _cycles, _labels, _rows)
    _tokens(archive)
    _usage(archive)
    _events(archive)
    _identity(archive)
    _worktrees(archive)
    _machinery(archive)


def _add(archive: AnyArchive, *groups: Callable[[], Iterator[tuple[str, Over]]]) -> None:
    for group in groups:
        for name, over in group():
            archive.add_session(name, **over)


def price(archive: SqliteArchive) -> None:
    """Add price rows, one of them too small for the later era's whole microdollars."""
    price_anywhere(archive)
    archive.add_price("tiny-cost", 0.0000005, 0.000001, 0, 0, updated_at="")


def price_anywhere(archive: AnyArchive) -> None:
    """Add price rows: fetched, equal to a built-in one, ambiguous, and bookkeeping."""
    archive.add_price(PRICED, 4, 12, 5, 0.4)
    archive.add_price("tern-mini", 0.25, 1.25, 0.3, 0.025, updated_at="2026-02-11T00:00:00.000Z")
    archive.add_price(BUILT_IN, 5, 25, 6.25, 0.5, updated_at="2026-02-09T00:00:00.000Z")
    archive.add_price("vendor/heron-9", 2, 8, 0, 0)
    archive.add_price("x/skua-1", 1, 1, 1, 1)
    archive.add_price("y/skua-1", 2, 2, 2, 2)
    archive.add_price("free-bird", 0, 0, 0, 0, updated_at="2026-02-10T06:30:00.123456789Z")
    archive.add_price("_fallback_version", 0, 0, 0, 0, updated_at="litellm-0123456789ab")
    archive.add_price("_litellm_last_attempt", 0, 0, 0, 0, updated_at="2026-03-01T00:00:00Z")


def _eligibility() -> Iterator[tuple[str, Over]]:
    """One-shot, automated, empty and deleted sessions, and what the filters look at."""
    for users in (0, 1, 2, 6):
        yield f"el-users-{users}", {"user_message_count": users}
        yield f"el-auto-{users}", {"user_message_count": users, "is_automated": 1}
    yield "el-empty", {"message_count": 0}
    yield "el-deleted", {"deleted_at": "2026-03-10T00:00:00.000Z"}
    for machine in ("oak", "elm", "fir"):
        for agent in ("claude", "codex"):
            yield f"el-{machine}-{agent}", {"machine": machine, "agent": agent}
    for outcome in ("completed", "abandoned", "errored", "unknown"):
        yield f"el-outcome-{outcome}", {"outcome": outcome, "project": "fate"}
    for grade in ("A", "B", "D", None):
        yield f"el-grade-{grade}", {"health_grade": grade, "project": "fate"}
    for failures in (0, 2, 5):
        yield f"el-failures-{failures}", {"tool_failure_signal_count": failures}
    for leaks in (1, 3):
        yield f"el-leaks-{leaks}", {"secret_leak_count": leaks, "secrets_rules_version": ""}
    for count in (1, 7, 40):
        yield f"el-count-{count}", {"message_count": count, "user_message_count": count}


def _relations() -> Iterator[tuple[str, Over]]:
    """Children of every kind below roots that pass, do not pass, are gone or never were."""
    auto = {"is_automated": 1, "user_message_count": 1}
    gone = {"deleted_at": "2026-03-10T00:00:00.000Z"}
    early, late = "2026-03-01T00:00:00Z", "2026-03-20T00:00:00Z"
    yield "re-root", {"project": "tree", "relationship_type": "root", "ended_at": late}
    yield "re-sub", _child("re-root", "subagent", project="other-tree", ended_at=early, **auto)
    yield "re-sub-sub", _child("re-sub", "subagent", project="third-tree")
    yield "re-fork", _child("re-root", "fork", project="tree")
    yield "re-fork-fork", _child("re-fork", "fork", project="tree", user_message_count=0)
    yield "re-cont", _child("re-root", "continuation", project="tree")
    yield "re-cont-of-cont", _child("re-cont", "continuation", project="tree")
    yield "re-handoff", _child("re-root", "handoff", project="tree")
    yield "re-untyped-child", _child("re-root", "", project="tree")
    yield "re-empty", _child("re-root", "subagent", message_count=0)
    yield "re-below-empty", _child("re-empty", "subagent")
    yield "re-deleted", {"project": "tree", **gone}
    yield "re-below-deleted", _child("re-deleted", "subagent")
    yield "re-cont-below-deleted", _child("re-deleted", "continuation")
    yield "re-once", {"project": "tree", "user_message_count": 1}
    yield "re-cont-of-once", _child("re-once", "continuation", project="tree")
    yield "re-auto", {"project": "tree", **auto}
    yield "re-below-auto", _child("re-auto", "subagent", project="tree")
    yield "re-old", {"project": "tree", "ended_at": early, "started_at": early}
    yield "re-young-below-old", _child("re-old", "subagent", ended_at=late)
    yield "re-keyless", _child("re-root", "subagent", **NO_TIME)
    yield "re-below-keyless", _child("re-keyless", "subagent")
    for kind in ("subagent", "fork", "continuation", "handoff"):
        yield f"re-orphan-{kind}", _child("nobody", kind, project="tree")
        yield f"re-null-{kind}", {"relationship_type": kind, "project": "tree"}
    yield "re-blank-parent", _child("", "", project="tree")


#: Times that hold no instant anywhere: a session that no export may show.
NO_TIME: Over = {"started_at": None, "ended_at": None, "created_at": "never"}


def _child(parent: str, kind: str, **over: Any) -> Over:
    return {"parent_session_id": parent, "relationship_type": kind, **over}


def _cycles() -> Iterator[tuple[str, Over]]:
    """Sessions that are each other's parents, and one that is its own."""
    yield "cy-a", _child("cy-b", "subagent")
    yield "cy-b", _child("cy-a", "subagent")
    yield "cy-c", _child("cy-d", "")
    yield "cy-d", _child("cy-c", "continuation")
    yield "cy-self", _child("cy-self", "")
    yield "cy-self-sub", _child("cy-self-sub", "subagent")


def _times() -> Iterator[tuple[str, Over]]:
    """Starts and ends as found in old and odd archives."""
    day = "2026-03-04"
    pairs = {
        "fraction": (f"{day}T10:00:00.900Z", f"{day}T10:00:02.100Z"),
        "comma": (f"{day}T10:00:00,900Z", f"{day}T10:00:02.100Z"),
        "space": (f"{day} 10:00:00", f"{day}T11:00:00Z"),
        "spaces": (f"{day} 10:00:00", f"{day} 11:00:00"),
        "backwards": (f"{day}T10:00:00Z", f"{day}T09:59:59Z"),
        "instant": (f"{day}T10:00:00Z", f"{day}T10:00:00Z"),
        "offsets": (f"{day}T12:00:00+02:00", f"{day}T10:30:00Z"),
        "no-start": (None, f"{day}T10:30:00Z"),
        "blank-start": ("", f"{day}T10:30:00Z"),
        "odd-start": ("?", f"{day}T10:30:00Z"),
        "odd-end": (f"{day}T10:30:00Z", "later"),
        "blank-end": (f"{day}T10:30:00Z", ""),
        "date-only": (day, f"{day}T10:30:00Z"),
        "lower-z": (f"{day}T10:00:00z", f"{day}T10:30:00z"),
        "no-zone": (f"{day}T10:00:00", f"{day}T10:30:00"),
        "no-seconds": (f"{day}T10:00Z", f"{day}T10:30Z"),
        "one-digit-hour": (f"{day}T9:00:00Z", f"{day}T10:30:00Z"),
        "nanoseconds": (f"{day}T10:00:00.123456789Z", f"{day}T10:30:00.987654321Z"),
        "many-digits": (f"{day}T10:00:00.1234567890123Z", f"{day}T10:30:00.5Z"),
        "near-second": (f"{day}T10:00:00.000000001Z", f"{day}T10:30:00Z"),
        "far-zone": (f"{day}T10:00:00+14:00", f"{day}T10:30:00-12:00"),
        "too-far-zone": (f"{day}T10:00:00+15:00", f"{day}T10:30:00+15:00"),
        "no-such-day": ("2026-02-31T10:00:00Z", "2026-02-31T11:00:00Z"),
        "hour-24": (f"{day}T24:00:00Z", f"{day}T24:30:00Z"),
        "leap-second": (f"{day}T10:00:60Z", f"{day}T10:30:60Z"),
        "epoch": ("1772618400", "1772620200"),
        "centuries": ("1700-01-01T00:00:00Z", f"{day}T10:00:00Z"),
        "trailing-blank": (f"{day}T10:00:00Z ", f"{day}T10:30:00Z "),
        "early-zone-day": ("2026-03-05T01:30:00+03:00", "2026-03-05T02:00:00+03:00"),
        "late-zone-day": ("2026-03-04T23:30:00-03:00", "2026-03-05T02:30:00Z"),
    }
    for name, (start, end) in pairs.items():
        yield f"ti-{name}", {"started_at": start, "ended_at": end, "project": "clock"}
    for number in (1, 2, 3):
        start = f"2026-03-{number:02d}T00:00:00Z"
        yield f"ti-day-{number}", {"started_at": start, "project": "days"}
    created = {"started_at": None, "created_at": "2026-03-02T00:00:00.000Z", "project": "days"}
    yield "ti-day-created", created
    yield "ti-day-odd", {**created, "started_at": "?"}
    yield "ti-created-only", {**created, "ended_at": None, "created_at": "2026-03-04 09:00:00"}
    yield "ti-none", NO_TIME


def _order() -> Iterator[tuple[str, Over]]:
    """Ends within one second and one millisecond, and ids that only bytes tell apart."""
    ends = {
        "or-plain": "07:15:09Z",
        "or-later": "07:15:09.4Z",
        "or-b": "07:15:09.7710Z",
        "or-a": "07:15:09.7714Z",
        "or-d": "07:15:09.7724Z",
        "or-c": "07:15:09.7720Z",
        "or-carry": "07:15:09.9996Z",
        "or-ten": "07:15:10Z",
        "or-half-up": "07:15:11.0005Z",
        "or-half-down": "07:15:11.0004999Z",
    }
    for name, end in ends.items():
        yield name, {"ended_at": f"2026-03-06T{end}", "project": "order"}
    for name in ("or-Z9", "or-a1", "or-é", "or-~", "or-_", "or-10", "or-9", "or-\U0001f41f"):
        yield name, {"ended_at": "2026-03-06T08:00:00Z", "project": "order"}
    for number, end in enumerate(("11:59:59.999Z", "12:00:00Z", "12:00:00.001Z")):
        yield f"or-around-{number}", {"ended_at": f"2026-03-07T{end}", "project": "around"}
    shifted = {"ended_at": "2026-03-07T17:00:00+05:00", "project": "around"}
    yield "or-around-shifted", shifted


def _labels() -> Iterator[tuple[str, Over]]:
    """Texts that JSON has to escape, and labels that differ by little."""
    texts = ("a<b&c", 'quo"te\\', "línea\u2028dos", "tab\there", "日本", "", " padded ", "A\x7fB")
    for number, text in enumerate(texts):
        yield f"la-{number}", {"project": text, "machine": f"m{number}", "git_branch": text}
    for project in ("tern", "kelp", "Tern"):
        for branch in ("", "dev", "feature/a,b", "Dev"):
            name = f"la-{project}-{branch or 'none'}".replace("/", "-")
            yield name, {"project": project, "git_branch": branch, "cwd": f"/srv/{project}"}
    for machine in ("oak,elm", " oak", "OAK"):
        yield f"la-machine-{machine}", {"machine": machine}


def _rows() -> Iterator[tuple[str, Over]]:
    """Counters and flags that are echoed as they are."""
    yield (
        "ro-tokens",
        {
            "total_output_tokens": 12345,
            "peak_context_tokens": 67890,
            "has_total_output_tokens": 1,
            "has_peak_context_tokens": 0,
        },
    )
    yield "ro-bare", {"cwd": "", "git_branch": "", "agent": "unheard-of", "project": "tern"}
    yield "ro-host", {"machine": "devbox", "agent": "codex", "project": "tern"}


def _messages_and_times(archive: SqliteArchive) -> None:
    """Sessions whose last activity or counts come from their messages."""
    open_end = {"started_at": "2026-03-04T09:00:00Z", "ended_at": None, "project": "clock"}
    cases: dict[str, tuple[Over, list[Over]]] = {
        "me-last": (open_end, [_at("09:05:00Z"), _at("09:20:30.900Z")]),
        "me-late": (
            {"ended_at": "2026-03-04T14:02:00Z", "project": "clock"},
            [_at("14:45:10Z")],
        ),
        "me-odd-end": (
            {**open_end, "ended_at": "later"},
            [_at("08:00:00Z"), {"timestamp": "whenever"}],
        ),
        "me-unparseable": (open_end, [{"timestamp": "zzz"}, {"timestamp": "aaa"}]),
        "me-mixed": (open_end, [{"timestamp": "zzz"}, _at("09:01:00Z"), {"timestamp": None}]),
        "me-tie": (open_end, [_at("09:07:00Z"), _at("09:07:00.000Z"), _at("11:07:00+02:00")]),
        "me-system-last": (open_end, [_at("09:05:00Z"), {**_at("09:50:00Z"), "is_system": 1}]),
        "me-blank": (open_end, [{"timestamp": ""}]),
        "me-counts": (
            {"message_count": 7, "project": "counts"},
            [
                {"role": "assistant"},
                {"role": "assistant", "is_system": 1},
                {"role": "user"},
                {"role": "tool"},
                {"role": ""},
            ],
        ),
    }
    for name, (over, messages) in cases.items():
        archive.add_session(name, **over)
        for message in messages:
            archive.add_message(name, **message)


def _at(clock: str) -> Over:
    return {"timestamp": f"2026-03-04T{clock}"}


#: Usage texts: what providers send, and what a crash, an old parser or a curious hand leaves.
TOKEN_TEXTS = (
    '{"input_tokens":2500,"output_tokens":700,"cache_creation_input_tokens":150,'
    '"cache_read_input_tokens":9000}',
    '{"reasoning_tokens":30}',
    '{"reasoning_tokens":30,"output_tokens":50}',
    '{"input_tokens":"42","output_tokens":1e3,"cache_read_input_tokens":-7}',
    '{"usage":{"input_tokens":9},"output_tokens":3}',
    '{"input_tokens":5,"output_tokens":6,"cac',
    '{"input_tokens":05,,"output_tokens":6x}',
    '{"input_tokens":5,"x":tru,"output_tokens":6}',
    '{"input_tokens":3000000,"output_tokens":1}',
    '{"input_tokens":12.7,"output_tokens":"12.7","reasoning_tokens":" +7 "}',
    '{"input_tokens":true,"output_tokens":null,"cache_read_input_tokens":[5],'
    '"reasoning_tokens":{"a":1}}',
    '{"input_tokens":5,"input_tokens":"x","input_tokens":9,"output_tokens":1,"output_tokens":null}',
    '{"\\u0069nput_tokens":8,"Input_tokens":9,"input":10}',
    '{"input_tokens":99999999999999999999,"output_tokens":"-99999999999999999999"}',
    '  \n{ "input_tokens" : 4 , "output_tokens" : 5 } trailing {"input_tokens":9}',
    '{"a":{"b":[1,{"c":"}"}]},"input_tokens":6}',
    '{"a":{"b":[1,{"c":}"],"input_tokens":6}',
    '{"note":"\\x","input_tokens":6}',
    '{"note":"tab\there","input_tokens":6}',
    '{"input_tokens":6 "output_tokens":7}',
    "{'input_tokens':6}",
    '[{"input_tokens":6}]',
    '"input_tokens"',
    "{}",
    "not json",
    '{"input_tokens":',
    '{"input_tokens":"1_000","output_tokens":"\u0663"}',
    '\ufeff{"input_tokens":6}',
    '{"cache_creation":{"ephemeral_5m_input_tokens":5},"cache_creation_input_tokens":5,'
    '"service_tier":null}',
    '{"x":1.,"input_tokens":6}',
    '{"x":+9,"input_tokens":6}',
    '{/*c*/"input_tokens":6//\n,"output_tokens":2}',
)


def _tokens(archive: AnyArchive) -> None:
    """One session for each usage text, with one message that carries it."""
    for number, text in enumerate(TOKEN_TEXTS):
        name = archive.add_session(f"to-{number:02d}", project="tokens")
        archive.add_message(name, role="assistant", model=PRICED, token_usage=text)


def _usage(archive: AnyArchive) -> None:
    """Which messages count, and how their models are priced."""
    small = {"input_tokens": 100, "output_tokens": 10}
    spelled = (
        "vendor/Orca.Large-2 (High)",
        "ORCA-LARGE-2",
        "orca.large.2",
        "orca-large-2-20260201",
        "other/heron-9",
        "vendor/heron-9",
        "heron-9",
        "skua-1",
        "x/skua-1",
        "free-bird",
        "a<b",
    )
    cases: dict[str, list[Over]] = {
        "us-user": [{"role": "user", "model": PRICED}],
        "us-no-model": [{"model": ""}, {"model": "<synthetic>"}],
        "us-unpriced": [{"model": UNPRICED}],
        "us-half-priced": [{"model": PRICED}, {"model": UNPRICED}],
        "us-built-in": [{"model": BUILT_IN}, {"model": "claude-haiku-4-5"}],
        "us-tiny": [{"model": "tiny-cost"}],
        "us-three": [{"model": PRICED}, {"model": "tern-mini"}, {"model": BUILT_IN}] * 3,
    }
    cases |= {f"us-spelled-{number:02d}": [{"model": text}] for number, text in enumerate(spelled)}
    for name, messages in cases.items():
        archive.add_session(name, project="usage")
        for message in messages:
            archive.add_message(name, token_usage=small, **message)


def _duplicates(archive: SqliteArchive) -> None:
    """Answers told twice, by provider ids, by transcript ids, and not at all."""
    none, some = {"input_tokens": 0}, {"input_tokens": 80, "output_tokens": 8}
    early, late = "2026-03-04T10:01:00Z", "2026-03-04T10:02:00Z"
    cases: dict[str, list[Over]] = {
        "du-empty-first": [{**PAIR, "token_usage": none}, {**PAIR, "token_usage": some}],
        "du-across": [{**PAIR, "token_usage": some}],
        "du-across-too": [{**PAIR, "token_usage": some}],
        "du-half-pair": [{"claude_message_id": "msg_pair"}] * 2,
        "du-uuid": [{"source_uuid": "u-1"}] * 2,
        "du-pair-and-uuid": [{**PAIR, "source_uuid": "u-1"}, {"source_uuid": "u-1"}],
        "du-none": [{}, {}],
        "du-text-order": [
            {**PAIR, "timestamp": "2026-03-04T10:01:00.5Z", "token_usage": {"input_tokens": 1}},
            {**PAIR, "timestamp": early, "token_usage": {"input_tokens": 2}},
        ],
        "du-late-first": [
            {**PAIR, "timestamp": late, "token_usage": {"input_tokens": 1}},
            {**PAIR, "timestamp": early, "token_usage": {"input_tokens": 2}},
        ],
        "du-no-time": [
            {**PAIR, "timestamp": None, "token_usage": {"input_tokens": 1}},
            {**PAIR, "timestamp": early, "token_usage": {"input_tokens": 2}},
        ],
    }
    for name, messages in cases.items():
        archive.add_session(name, project="twice")
        for message in messages:
            archive.add_message(name, **{"model": PRICED, "token_usage": some, **message})
    archive.add_session("du-agentless", project="twice", agent="")
    for _ in range(2):
        archive.add_message("du-agentless", model=PRICED, token_usage=some, source_uuid="u-1")


def _events(archive: AnyArchive) -> None:
    """Usage events: reported, computed, cumulative, negative, told twice."""
    tokens = {"input_tokens": 2000, "output_tokens": 100}
    big = {"input_tokens": 3_000_000, "output_tokens": -5}
    cases: dict[str, list[Over]] = {
        "ev-reported": [{**tokens, "cost_usd": 0.004}],
        "ev-reported-zero": [{"model": UNPRICED, "cost_usd": 0.0}],
        "ev-reported-negative": [{"model": PRICED, "cost_usd": -0.5}],
        "ev-nothing": [{"model": UNPRICED}],
        "ev-computed": [{**tokens}],
        "ev-mixed": [{**tokens, "cost_usd": 0.25}, {**tokens, "dedup_key": "k"}],
        "ev-big-provider": [{**big, "source": "provider"}],
        "ev-big-session": [{**big, "source": "session"}],
        "ev-message-source": [{**tokens, "source": "message"}],
        "ev-message-source-cost": [{**tokens, "source": "message", "cost_usd": 0.125}],
        "ev-reasoning": [{"reasoning_tokens": -40, "output_tokens": 3}],
        "ev-reasoning-only": [{"reasoning_tokens": 5_000_000}],
        "ev-synthetic": [{**tokens, "model": "<synthetic>"}],
        "ev-no-model": [{**tokens, "model": ""}],
        "ev-repeated": [{**tokens}, {**tokens}],
        "ev-keys": [{**tokens, "dedup_key": key} for key in ("a", "b")],
        "ev-no-time": [{**tokens, "occurred_at": None}, {**tokens, "occurred_at": ""}],
        "ev-thirds": [{"cost_usd": 0.1, "dedup_key": str(key)} for key in range(3)],
    }
    for name, events in cases.items():
        archive.add_session(name, project="events")
        for event in events:
            archive.add_event(name, **event)
    both = archive.add_session("ev-and-message", project="events")
    archive.add_message(both, ordinal=1, model=PRICED, token_usage={"input_tokens": 10})
    archive.add_event(both, message_ordinal=1, **tokens)


def _identity(archive: AnyArchive) -> None:
    """Projects with one remote, two, none, only paths, mappings, and worktrees."""
    remotes = {
        "one-remote": ("git@h.example:o/r.git", "ssh://git@h.example/o/r"),
        "two-remotes": ("https://h.example/o/r.git", "https://h.example/o/s.git"),
        "bad-remote": ("/local/path", "file:///x"),
    }
    for project, found in remotes.items():
        archive.add_session(f"id-{project}", project=project)
        for remote in found:
            archive.add_observation(project, git_remote=remote, root_path="")
    archive.add_session("id-root-only", project="root-only")
    archive.add_observation("root-only", root_path="/srv/./root//only/")
    archive.add_session("id-unknown", project="unknown")
    for number, cwd in enumerate(("/srv/loose/a", "/srv/loose/b", "relative/path")):
        archive.add_session(f"id-loose-{number}", project=f"loose-{number % 2}", cwd=cwd)
    archive.add_session("id-relative", project="relative", cwd="only/relative")
    archive.add_session("id-place", project="one-place", cwd="/srv/one/place")


def _mapped(archive: SqliteArchive) -> None:
    """Projects known by an operator's rule, and a session whose file is all that is known."""
    path = "/srv/transcripts/two.jsonl"
    archive.add_session("id-file-only", project="file-only-too", file_path=path)
    archive.add_mapping("/srv/mapped", "mapped")
    archive.add_mapping("/srv/mapped/deep", "mapped")
    archive.add_mapping("/srv/off", "mapped-off", enabled=False)
    archive.add_mapping("/srv/trees", "", layout="repo_dot_worktrees")
    archive.add_session("id-mapped", project="mapped", cwd="/srv/mapped/deep/er")
    archive.add_session("id-mapped-off", project="mapped-off", cwd="/srv/off/x")
    cwd = "/srv/trees/sea-star.worktrees/one"
    archive.add_session("id-mapped-tree", project="sea_star", cwd=cwd)
    archive.add_session("id-mapped-elsewhere", project="elsewhere", cwd="/srv/mapped/x")


def _worktrees(archive: AnyArchive) -> None:
    main, tree = "/srv/reef", "/srv/reef/wt/x"
    archive.add_observation("reef", root_path=main, worktree_name="main")
    archive.add_observation(
        "reef", root_path=tree, worktree_name="x", worktree_root_path=main, git_remote=""
    )
    archive.add_observation("reef", root_path="/srv/named", worktree_name="", git_remote="")
    archive.add_observation("reef", root_path="shoal", worktree_name="relative")
    places = {
        "inside": f"{tree}/lib",
        "at-root": main,
        "untidy": f"{main}//wt/./x/../x/",
        "beside": "/srv/reefforest",
        "outside": "/opt",
        "blank": "",
        "relative": "shoal/deep",
        "nameless": "/srv/named/a",
    }
    for name, cwd in places.items():
        archive.add_session(f"wt-{name}", project="reef", cwd=cwd)
    archive.add_session("wt-elsewhere", project="reef", cwd=f"{tree}/lib", machine="elm")
    archive.add_session("wt-other", project="tern", cwd=f"{tree}/lib")


def _machinery(archive: AnyArchive) -> None:
    """Rows that an export must leave alone: billing lines, tombstones, stars."""
    for minute in (5, 15, 25):
        archive.add_cursor_usage(occurred_at=f"2026-03-04T10:{minute:02d}:00Z")
    archive.exclude("gone-for-good")
    archive.star("el-users-2")
