"""Write what an importer made of a source into the archive, a bounded batch per transaction.

Rows go by COPY into staging tables of the connection and from there by set statements into the
archive. Everything derived from them (roll-ups, rates, v1 text) is brought up to date in the same
transaction, so an export never sees one without the other. Running a batch twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from exporter.core.intake import Rows, copy_text
from exporter.core.pricing import PriceTable
from exporter.core.times import parse_strict_ns
from exporter.db import queries, session_text
from exporter.db.prices import price_table
from exporter.importers.source import Listed, SourceInfo, SourcePrice

Connection = psycopg.Connection[Any]

QUERIES = queries.load(__file__)

_UPDATE_SESSIONS = QUERIES["update_sessions"].format(known=QUERIES["known"])
_INSERT_SESSIONS = QUERIES["insert_sessions"].format(known=QUERIES["known"])
_TOUCHED = sql.SQL("SELECT session_key FROM touched")


class Staged(NamedTuple):
    """A batch of sessions as the COPY text of the three staging tables."""

    size: int
    sessions: bytes
    usage: bytes
    points: bytes


class Staging:
    """Gathers the rows of sessions for one `Staged`, each session under a number of its own."""

    def __init__(self) -> None:
        self._sessions: list[str] = []
        self._usage: list[str] = []
        self._points: list[str] = []

    def add(self, rows: Rows, derived: str, fingerprint: str) -> None:
        """``derived`` are the five derived COPY fields of the session."""
        slot = f"{len(self._sessions)}\t"
        self._sessions.append(f"{slot}{rows.session}\t{derived}\t{fingerprint}\t{rows.digest}\n")
        # Every line begins with the number: one join writes it before each of them.
        self._usage.append(slot.join(("", *rows.usage)))
        self._points.append(slot.join(("", *rows.points)))

    def finished(self) -> Staged:
        texts = ("".join(lines).encode() for lines in (self._sessions, self._usage, self._points))
        return Staged(len(self._sessions), *texts)


class BatchCounts(NamedTuple):
    new: int
    changed: int
    usage_rows: int
    points: int


def register_source(conn: Connection, info: SourceInfo) -> tuple[int, str]:
    """(source id, watermark of the last complete import, '' for none), noting where it is now.

    A source is known by its archive id; one that gained a lasting id since, by its database id.
    """
    facts = {name: getattr(info, name) for name in SourceInfo.__slots__}
    with conn.transaction():
        row = conn.execute(QUERIES["find_source"], facts).fetchone()
        if row is None:
            row = conn.execute(QUERIES["add_source"], facts).fetchone()
            assert row is not None
        else:
            conn.execute(QUERIES["note_source"], {**facts, "source_id": row[0]})
    return row[0], row[1]


def finish_run(
    conn: Connection, source_id: int, seconds: float, counts: dict[str, Any], watermark: str
) -> None:
    """Record a complete import; only now does an unchanged source mean nothing to do."""
    with conn.transaction():
        was_pending = conn.execute(QUERIES["is_usage_pending"]).fetchone()
        # A trigger folds what is pending.
        conn.execute(
            "UPDATE sources SET watermark = %s, completed_at = now() WHERE source_id = %s",
            (watermark, source_id),
        )
        if was_pending and was_pending[0]:
            conn.execute(QUERIES["release_keys"])
        conn.execute(
            "INSERT INTO import_runs (source_id, started_at, finished_at, counts)"
            " VALUES (%s, now() - %s * interval '1 second', now(), %s)",
            (source_id, seconds, Jsonb(counts)),
        )


def next_revision(conn: Connection) -> int:
    """Open the archive's next revision; held to the end of the transaction."""
    row = conn.execute(QUERIES["next_revision"]).fetchone()
    assert row is not None
    return int(row[0])


# -- prices -------------------------------------------------------------------------------------


def replace_prices(conn: Connection, source_id: int, prices: Iterable[SourcePrice]) -> int:
    """Make the stored prices of a source equal to what it holds now; returns rows changed."""
    with conn.transaction():
        conn.execute(QUERIES["stage_prices"])
        _copy_prices(conn, prices)
        changed = conn.execute(QUERIES["upsert_prices"], {"source_id": source_id}).rowcount
        changed += conn.execute(QUERIES["delete_prices"], {"source_id": source_id}).rowcount
        if changed:
            refresh_rates(conn)
    return changed


def update_prices(conn: Connection, source_id: int, prices: Iterable[SourcePrice]) -> int:
    """Add a catalogue: rows of equal rates keep their time, models that it lacks stay."""
    with conn.transaction():
        conn.execute(QUERIES["stage_prices"])
        _copy_prices(conn, prices)
        changed = conn.execute(QUERIES["update_prices"], {"source_id": source_id}).rowcount
        if changed:
            refresh_rates(conn)
    return changed


def _copy_prices(conn: Connection, prices: Iterable[SourcePrice]) -> None:
    with conn.cursor() as cursor, cursor.copy("COPY stage_prices FROM STDIN") as copy:
        for price in {(p.is_custom, p.model_pattern): p for p in prices}.values():
            at = price.updated_at if parse_strict_ns(price.updated_at) is not None else None
            copy.write_row(
                (
                    price.model_pattern,
                    price.input,
                    price.output,
                    price.cache_creation,
                    price.cache_read,
                    price.updated_at,
                    at,
                    price.is_custom,
                )
            )


def ensure_models(conn: Connection, table: PriceTable, names: Sequence[str]) -> dict[str, int]:
    """Numbers of these model names; new names are stored with the rates of ``table``."""
    with conn.transaction():
        conn.execute(QUERIES["add_models"], {"names": list(names)})
        found = dict(conn.execute(QUERIES["model_ids"], {"names": list(names)}).fetchall())
        # In one order everywhere, so that two imports cannot wait for each other.
        _write_rates(conn, table, sorted(found.items()))
    return found


def refresh_rates(conn: Connection) -> None:
    """Price every recorded model anew, and render again what that changes.

    Waits for whoever else changes the archive, so that the prices it reads are the last word.
    """
    conn.execute("SELECT FROM archive FOR UPDATE")
    table = price_table(conn)
    models = conn.execute("SELECT name, model_id FROM models ORDER BY name").fetchall()
    changed = _write_rates(conn, table, models)
    if changed:
        keys = sql.SQL(
            "SELECT session_key FROM session_models WHERE model_id = ANY({models})"
        ).format(models=sql.Literal(changed))
        render(conn, keys)


def _write_rates(
    conn: Connection, table: PriceTable, models: Iterable[tuple[str, int]]
) -> list[int]:
    """Store the rates of models; returns the models whose rates are new or differ."""
    rows: list[tuple[Any, ...]] = []
    for name, model_id in models:
        price = table.resolve(name)
        if price is None:
            rows.append((model_id, None, *(Decimal(0),) * 4))
        else:
            rows.append((model_id, price.pattern, *price.rates.exact))
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * 6
    result = conn.execute(
        QUERIES["write_rates"],
        dict(zip(("ids", "patterns", "i", "o", "w", "r"), map(list, columns), strict=True)),
    )
    return [row[0] for row in result]


def render(conn: Connection, keys: sql.Composable) -> int:
    """Bring the v1 text of the sessions that ``keys`` selects up to date; returns rows written."""
    conn.execute("SET LOCAL extra_float_digits = 1")
    statement = QUERIES["render_lines"].format(
        keys=keys,
        head=session_text.HEAD,
        tail=session_text.TAIL,
        no_usage=session_text.NO_USAGE,
        usage=session_text.usage(keys, session_text.STORED_RATES),
    )
    return conn.execute(statement).rowcount


def replace_billing(conn: Connection, source_id: int, lines: dict[str, str]) -> int:
    """Make the stored billing lines of a source equal to these; returns rows changed."""
    parameters = {"source_id": source_id}
    with conn.transaction():
        conn.execute(QUERIES["stage_billing"])
        with conn.cursor() as cursor:
            _copy_lines(
                cursor,
                "COPY stage_billing FROM STDIN",
                (f"{key}\t{line}" for key, line in lines.items()),
            )
        changed = conn.execute(QUERIES["upsert_billing"], parameters).rowcount
        return changed + conn.execute(QUERIES["delete_billing"], parameters).rowcount


# -- sessions -----------------------------------------------------------------------------------


def create_stage(conn: Connection) -> None:
    """The staging tables of this connection."""
    conn.execute(QUERIES["create_stage"])


def stage_listing(conn: Connection, listing: Iterable[Listed]) -> None:
    """Replace the staged listing. It outlives transactions: batches are cut from it."""
    with conn.transaction():
        conn.execute("TRUNCATE stage_listing")
        with conn.cursor() as cursor, cursor.copy("COPY stage_listing FROM STDIN") as copy:
            for row in listing:
                copy.write(f"{copy_text(row.id)}\t{row.fingerprint}\t{row.weight}\n".encode())
    conn.execute("ANALYZE stage_listing")


def pending(
    conn: Connection, source_id: int, *, everything: bool, page: int = 5000
) -> Iterator[Listed]:
    """Listed sessions that are new or look different, in id order; memory holds one page."""
    after = ""
    while True:
        rows = conn.execute(
            QUERIES["pending"],
            {"source_id": source_id, "everything": everything, "after": after, "limit": page},
        ).fetchall()
        yield from map(Listed._make, rows)
        if len(rows) < page:
            return
        after = rows[-1][0]


def count_pending(conn: Connection, source_id: int, *, everything: bool) -> tuple[int, int, int]:
    """(sessions listed, sessions of them that must be read, messages that those have)."""
    parameters = {"source_id": source_id, "everything": everything}
    row = conn.execute(QUERIES["count_pending"], parameters).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


def current_revision(conn: Connection) -> int:
    """The archive's latest revision."""
    row = conn.execute("SELECT revision FROM archive").fetchone()
    assert row is not None
    return int(row[0])


def count_merged(conn: Connection, source_id: int, since: int) -> int:
    """Listed sessions that were merged after a revision and look as they did then."""
    row = conn.execute(QUERIES["count_merged"], {"source_id": source_id, "since": since}).fetchone()
    assert row is not None
    return int(row[0])


def known_digests(conn: Connection, source_id: int, ids: Sequence[str]) -> dict[str, str]:
    """Digest of the rows that the archive holds, by session id."""
    parameters = {"source_id": source_id, "ids": list(ids)}
    return dict(conn.execute(QUERIES["same_digests"], parameters).fetchall())


def note_fingerprints(conn: Connection, source_id: int, seen: dict[str, str]) -> None:
    """Remember what unchanged sessions look like at their source, to pass them by next time."""
    if seen:
        parameters = {"ids": list(seen), "fingerprints": list(seen.values())}
        conn.execute(QUERIES["note_fingerprints"], {"source_id": source_id, **parameters})


def write_sessions(conn: Connection, source_id: int, staged: Staged) -> BatchCounts:
    """Merge staged sessions and all that follows from them, in one transaction.

    It need not be on disk at once: `finish_run`, which says that all is there, waits for that.
    """
    with conn.transaction():
        conn.execute("SET LOCAL synchronous_commit = off")
        with conn.cursor() as cursor:
            for table in ("sessions", "usage", "points"):
                with cursor.copy(f"COPY stage_{table} FROM STDIN".encode()) as copy:
                    copy.write(getattr(staged, table))
        parameters = {"source_id": source_id, "revision": next_revision(conn)}
        changed = conn.execute(_UPDATE_SESSIONS, parameters).rowcount
        new = conn.execute(_INSERT_SESSIONS, parameters).rowcount
        if changed:
            conn.execute(QUERIES["delete_children"])
        usage = conn.execute(QUERIES["insert_usage"]).rowcount
        points = conn.execute(QUERIES["insert_points"]).rowcount
        conn.execute("ANALYZE touched")
        sums = QUERIES["roll_up"].format(rows=QUERIES["staged_rows"])
        conn.execute(sql.SQL("INSERT INTO session_models {}").format(sums))
        conn.execute(
            QUERIES["choose_copies"].format(keys=_TOUCHED), {**parameters, "always": False}
        )
        render(conn, _TOUCHED)
    return BatchCounts(new, changed, usage, points)


def _copy_lines(
    cursor: psycopg.Cursor[Any], statement: LiteralString, lines: Iterable[str]
) -> None:
    with cursor.copy(statement) as copy:
        copy.write("".join(lines).encode())


def repair_roll_ups(conn: Connection, bounds: dict[str, int]) -> int:
    """Sum up the usage of a range of sessions again; returns how many sums had been wrong."""
    fresh = QUERIES["roll_up"].format(rows=QUERIES["rows_in_range"])
    wrong = conn.execute(QUERIES["delete_wrong_roll_ups"].format(fresh=fresh), bounds).rowcount
    added = conn.execute(QUERIES["add_missing_roll_ups"].format(fresh=fresh), bounds).rowcount
    return max(wrong, added)


def repair_copies(conn: Connection, keys: sql.Composable) -> int:
    """Choose among copies of the same session again; returns how many choices had been wrong."""
    changed = 0
    with conn.transaction() as attempt:
        # The revision comes first, because the change log notes it; without a change it goes back.
        revision = next_revision(conn)
        statement = QUERIES["choose_copies"].format(keys=keys)
        parameters = {"revision": revision, "always": True}
        changed = conn.execute(statement, parameters).rowcount
        if not changed:
            raise psycopg.Rollback(attempt)
    return changed


def note_usage(conn: Connection, bounds: dict[str, int]) -> None:
    """Have the sums of a range of sessions that the reports read made anew by `fold_usage`."""
    conn.execute(QUERIES["note_usage"], bounds)


def fold_usage(conn: Connection) -> None:
    """Sum up the usage of all noted sessions, as the end of an import does."""
    conn.execute("SELECT fold_usage()")
    conn.execute(QUERIES["release_keys"])


def refresh_statistics(conn: Connection) -> None:
    """Tell the planner of a large import now; autovacuum would, minutes later."""
    conn.execute(QUERIES["analyze"])


def mark_gone(conn: Connection, source_id: int, excluded: Sequence[str]) -> int:
    """Mark sessions that the staged listing lacks; returns how many are newly gone."""
    parameters: dict[str, Any] = {"source_id": source_id, "excluded": list(excluded)}
    with conn.transaction():
        row = conn.execute(QUERIES["gone"], parameters).fetchone()
        if row is None or not row[0]:
            return 0
        parameters["revision"] = next_revision(conn)
        keys = [row[0] for row in conn.execute(QUERIES["mark_gone"], parameters)]
        literal = sql.SQL("SELECT unnest({keys}::bigint[])").format(keys=sql.Literal(keys))
        conn.execute(QUERIES["choose_copies"].format(keys=literal), {**parameters, "always": False})
    return len(keys)
