"""Flag combinations of ``export sessions``, as data.

The names they use (projects, machines, days) are those that ``widen`` and ``transcripts`` put
into the archive. A case says what both programs owe: a result to compare, a refusal, or a
value that the origin compares as the text it is and we refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

Expected = Literal["same", "refused", "refused by us"]
UNIT = "\x1f"
RECORD = "\x1e"


@dataclass(frozen=True)
class Case:
    """One command line after ``sessions``, and what is owed for it."""

    flags: tuple[str, ...]
    expected: Expected = "same"

    def __str__(self) -> str:
        """The flags as a test's name."""
        return " ".join(self.flags).replace(UNIT, "␟").replace(RECORD, "␞") or "no flags"


SCOPES = ("--include-one-shot", "--include-automated", "--include-children")


def _scopes() -> Iterator[tuple[str, ...]]:
    for size in range(len(SCOPES) + 1):
        yield from combinations(SCOPES, size)


def _token(project: str, branch: str) -> str:
    return f"{project}{UNIT}{branch}"


FILTERS: tuple[tuple[str, ...], ...] = (
    ("--project", "tern"),
    ("--project", "Tern"),
    ("--project", " tern "),
    ("--project", "tern,kelp"),
    ("--project", "tree"),
    ("--project", "nowhere"),
    ("--project", ""),
    ("--project", "   "),
    ("--project", "tidepool"),
    ("--project", "clock"),
    ("--exclude-project", "tern"),
    ("--exclude-project", ""),
    ("--project", "tern", "--exclude-project", "tern"),
    ("--machine", "oak"),
    ("--machine", " elm , oak,"),
    ("--machine", " , "),
    ("--machine", "OAK"),
    ("--machine", "local"),
    ("--agent", "codex"),
    ("--agent", "claude,codex"),
    ("--agent", "unheard-of"),
    ("--agent", "Claude"),
    ("--machine", "fir", "--agent", "codex"),
    ("--git-branch", _token("tern", "dev")),
    ("--git-branch", _token("tern", "")),
    ("--git-branch", _token("tern", "dev") + RECORD + _token("kelp", "feature/a,b")),
    ("--git-branch", "tern"),
    ("--git-branch", "tern" + RECORD + _token("kelp", "dev")),
    ("--git-branch", " "),
    ("--git-branch", _token("tidepool", "main")),
    ("--min-messages", "7"),
    ("--max-messages", "2", "--include-one-shot"),
    ("--max-messages", "0"),
    ("--min-messages", "-3"),
    ("--min-messages", "2", "--max-messages", "7"),
    ("--min-user-messages", "3"),
    ("--min-user-messages", "3", "--include-one-shot"),
    ("--outcome", "completed"),
    ("--outcome", "errored, abandoned"),
    ("--outcome", "Errored"),
    ("--outcome", "completed,unknown"),
    ("--health-grade", "A,B"),
    ("--health-grade", "D"),
    ("--health-grade", "a"),
    ("--min-tool-failures", "2"),
    ("--min-tool-failures", "0"),
    ("--min-tool-failures", "-1"),
    ("--min-tool-failures", "99"),
    ("--has-secret",),
    ("--has-secret=false",),
    ("--date", "2026-03-04"),
    ("--date", "2026-03-05"),
    ("--date", "2026-03-01"),
    ("--date", "1999-01-01"),
    ("--date-from", "2026-03-02"),
    ("--date-to", "2026-03-02"),
    ("--date-from", "2026-03-01", "--date-to", "2026-03-02"),
    ("--date-from", "2026-03-05", "--date-to", "2026-03-02"),
    ("--date-from", "2026-03-01", "--date", "2026-03-02"),
    ("--active-since", "2026-03-07T12:00:00Z"),
    ("--active-since", "2026-03-07T17:00:00+05:00"),
    ("--active-since", "2026-03-07T12:00:00.001Z"),
    ("--active-since", "2026-03-05"),
    ("--active-since", "2026-03-05T00:00:00Z", "--include-children"),
    ("--active-since", "2026-03-19T00:00:00Z", "--include-children"),
    ("--date", "2026-03-04", "--include-children"),
    ("--project", "tree", "--include-children"),
    ("--project", "tree", "--include-children", "--include-one-shot"),
    ("--project", "tree", "--include-children", "--include-automated"),
    ("--machine", "oak", "--include-children", "--include-one-shot", "--include-automated"),
    ("--agent", "claude", "--include-children", "--outcome", "completed"),
    ("--has-secret", "--min-tool-failures", "0", "--machine", "oak"),
    ("--project", "fate", "--outcome", "completed", "--health-grade", "A"),
)

FRAMES: tuple[tuple[str, ...], ...] = (
    ("--json",),
    ("--format", "json"),
    ("--format", "ndjson"),
    ("--json", "--format", "json"),
    ("--all",),
    ("--all", "--format", "ndjson"),
    ("--all", "--limit", "7"),
    ("--all", "--limit", "1", "--project", "order"),
    ("--all", "--limit", "50", "--include-children", "--format", "ndjson"),
    ("--limit", "1"),
    ("--limit", "500"),
    ("--limit", "3", "--format", "ndjson"),
    ("--limit", "5", "--limit", "2"),
    ("--cursor", "", "--project", "tern"),
    ("--all=false", "--limit", "2"),
    ("--include-one-shot=false",),
    ("--include-automated=true", "--include-one-shot=t"),
)

REFUSED: tuple[tuple[str, ...], ...] = (
    ("--json", "--format", "ndjson"),
    ("--format", "yaml"),
    ("--format", "JSON"),
    ("--limit", "0"),
    ("--limit", "501"),
    ("--limit", "-1"),
    ("--limit", "many"),
    ("--all", "--limit", "501"),
    ("--cursor", "nonsense", "--limit", "0"),
    ("--cursor", "nonsense", "--agent", "codex", "--project", "tern"),
    ("--cursor", "nonsense", "--all=false"),
    ("--no-such-flag",),
    ("positional",),
    ("--min-messages", "few"),
    ("--has-secret=maybe",),
)

#: The origin compares these as texts and answers something; a mistake deserves a sentence.
REFUSED_BY_US: tuple[tuple[str, ...], ...] = (
    ("--date", "03/04/2026"),
    ("--date-from", "2026-3-4"),
    ("--date-to", "yesterday"),
    ("--active-since", "soon"),
)

CURSOR_RESETS: tuple[tuple[str, ...], ...] = (
    ("--cursor", "nonsense"),
    ("--cursor", "nonsense", "--limit", "5"),
    ("--cursor", "nonsense", "--format", "ndjson"),
    ("--cursor", "bm9uc2Vuc2U.bm9uc2Vuc2U"),
    ("--cursor", "a.b.c"),
    ("--cursor", " "),
)

COMPARED: tuple[Case, ...] = tuple(Case(flags) for flags in (*_scopes(), *FILTERS, *FRAMES))
REFUSALS: tuple[Case, ...] = (
    *(Case(flags, "refused") for flags in REFUSED),
    *(Case(flags, "refused by us") for flags in REFUSED_BY_US),
)

#: Enough to see that another archive is read alike, where every case would take too long.
FEW: tuple[Case, ...] = tuple(
    Case(flags)
    for flags in (
        (),
        ("--include-one-shot", "--include-automated"),
        ("--include-children",),
        ("--include-children", "--include-one-shot", "--include-automated", "--all"),
        ("--all", "--format", "ndjson"),
    )
)
