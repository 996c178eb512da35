"""Small random archives as plain data, and the session export's rules over them, read naively.

A model maps each session id to its columns and the times of its messages. ``write`` brings a
source archive in line with a model; the functions below say, from the model alone, which sessions
an export owes and in which order.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from hypothesis import strategies as st

from exporter.core.cursor import Filters
from tests.archives.builder import SqliteArchive

Session = dict[str, Any]
Model = dict[str, Session]

#: Time texts, and their instants in milliseconds from ten o'clock; None is no instant.
TIMES: dict[str, int | None] = {
    "2026-03-04T10:00:00Z": 0,
    "2026-03-04T10:00:00.000Z": 0,
    "2026-03-04T12:00:00+02:00": 0,
    "2026-03-04 10:00": 0,
    "2026-03-04T10:00:00.001Z": 1,
    "2026-03-04T10:00:00.0014Z": 1,
    "2026-03-04T09:59:59.9996Z": -1,
    "2026-03-04T10:00:05Z": 5000,
    "2026-03-03T10:00:00Z": -86_400_000,
    "2026-03-05T01:30:00+03:00": 45_000_000,
    "later": None,
    "": None,
}
TEXTS = sorted(TIMES)
#: In byte order, which no locale shares.
IDS = ["A", "Z9", "a", "a1", "b", "ß", "é", "\uff5e", "\U0001f426"]
ROOTLESS = ("subagent", "fork", "continuation")
DELETED = "2026-03-06T00:00:00Z"

#: Most values let a session be listed, so that archives are about several.
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "project": st.sampled_from(["tern", "tern", "kelp"]),
    "outcome": st.sampled_from(["completed", "completed", "errored"]),
    "message_count": st.sampled_from([3] * 9 + [0]),
    "user_message_count": st.sampled_from([2, 5, 2, 5, 1]),
    "is_automated": st.sampled_from([0] * 6 + [1]),
    "deleted_at": st.sampled_from([None] * 11 + [DELETED]),
    "relationship_type": st.sampled_from(["", "", "", "handoff", *ROOTLESS]),
    "parent_session_id": st.sampled_from([None, None, "gone", *IDS, *IDS[:3]]),
    "ended_at": st.sampled_from([None, *TEXTS]),
    "started_at": st.sampled_from([None, *TEXTS]),
    "created_at": st.sampled_from(TEXTS),
    "messages": st.lists(st.sampled_from([None, *TEXTS]), max_size=2),
    "peak_context_tokens": st.integers(0, 3),
}
sessions: st.SearchStrategy[Session] = st.fixed_dictionaries(COLUMNS)
archives: st.SearchStrategy[Model] = st.dictionaries(
    st.sampled_from(IDS), sessions, min_size=5, max_size=len(IDS)
)

_kin: st.SearchStrategy[Session] = st.fixed_dictionaries(
    {
        **COLUMNS,
        "relationship_type": st.sampled_from([*ROOTLESS, "handoff"]),
        "parent_session_id": st.sampled_from([*IDS[:5], *IDS[:5], *IDS]),
    }
)
_ROOT: Session = {
    "relationship_type": "",
    "message_count": 3,
    "user_message_count": 5,
    "is_automated": 0,
    "deleted_at": None,
}
#: Archives in which one session is a root, unless filtered out, and most others hang below some.
families: st.SearchStrategy[Model] = st.builds(
    lambda root, others: {**others, IDS[0]: {**root, **_ROOT}},
    sessions,
    st.dictionaries(st.sampled_from(IDS[1:]), _kin, min_size=4, max_size=len(IDS) - 1),
)


def write(archive: SqliteArchive, before: Model, after: Model) -> None:
    """Change a source that holds ``before`` so that it holds ``after``."""
    for name in before:
        if before[name] != after.get(name):
            archive.delete_session(name)
    for name, session in after.items():
        if session != before.get(name):
            columns = {column: value for column, value in session.items() if column != "messages"}
            archive.add_session(name, **columns)
            for timestamp in session["messages"]:
                archive.add_message(name, timestamp=timestamp)


# --- What is asked --------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """Some of the filters, as a user gives them."""

    include_one_shot: bool = False
    include_automated: bool = False
    include_children: bool = False
    project: str = ""
    exclude_project: str = ""
    outcome: str = ""
    active_since: str = ""

    @property
    def filters(self) -> Filters:
        """The same for the export."""
        return Filters.from_options(**{f.name: getattr(self, f.name) for f in fields(self)})

    def passes(self, session: Session) -> bool:
        """Whether a session that may be listed by itself is asked for."""
        ms = key(session)
        since = TIMES.get(self.active_since)
        return (
            (self.include_automated or not session["is_automated"])
            and (
                self.include_one_shot
                or session["user_message_count"] > 1
                or bool(self.include_automated and session["is_automated"])
            )
            and self.project in ("", session["project"])
            and session["project"] != self.exclude_project
            and self.outcome in ("", session["outcome"])
            and (since is None or (ms is not None and ms >= since))
        )


def asked(children: st.SearchStrategy[bool]) -> st.SearchStrategy[Asked]:
    """Questions, most of them wide enough to be answered with several sessions."""
    return st.builds(
        Asked,
        include_one_shot=st.booleans(),
        include_automated=st.booleans(),
        include_children=children,
        project=st.sampled_from([""] * 5 + ["tern"]),
        exclude_project=st.sampled_from([""] * 5 + ["kelp"]),
        outcome=st.sampled_from([""] * 5 + ["completed"]),
        active_since=st.sampled_from([""] * 9 + [text for text in TEXTS if TIMES[text]]),
    )


# --- What is owed ---------------------------------------------------------------------------


def key(session: Session) -> int | None:
    """The instant that orders a session: that of the first column that has one."""
    messages = [TIMES[text] for text in session["messages"] if text]
    latest = max((ms for ms in messages if ms is not None), default=None)
    candidates = [
        TIMES.get(session["ended_at"] or ""),
        latest,
        TIMES.get(session["started_at"] or ""),
        TIMES.get(session["created_at"] or ""),
    ]
    return next((ms for ms in candidates if ms is not None), None)


def owed(model: Model, question: Asked) -> list[str]:
    """The ids that an export must list, in its order."""
    visible = {n: s for n, s in model.items() if s["message_count"] > 0 and not s["deleted_at"]}
    rootless = ROOTLESS if question.include_children else ROOTLESS[:2]
    chosen = {
        name
        for name, session in visible.items()
        if session["relationship_type"] not in rootless and question.passes(session)
    }
    grown = question.include_children
    while grown:
        below = {name for name, s in visible.items() if s["parent_session_id"] in chosen}
        grown = not below <= chosen
        chosen |= below
    keys = {name: key(visible[name]) for name in chosen}
    listed = [(-ms, name.encode()) for name, ms in keys.items() if ms is not None]
    return [name.decode() for _, name in sorted(listed)]
