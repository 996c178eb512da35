"""``exporter pricing``: bring prices in, show which are in force, and print their digest."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from exporter.cli import render
from exporter.cli.custom_prices import custom_prices_option
from exporter.cli.options import database_option, examples, json_option
from exporter.cli.streams import stdin_bytes
from exporter.errors import BadInput, ExporterError, SourceUnreadable
from exporter.settings import Settings, given_path, scheme_of

if TYPE_CHECKING:
    from psycopg import Connection

    from exporter.core.pricing import Match, PriceRow, PriceTable, Rates
    from exporter.exports.facts import PriceOrigin

#: All catalogues are one source: a later one brings the same rows up to date.
_KIND: Final = "catalogue"
_ARCHIVE_ID: Final = "litellm"
_PACKAGE: Final = "litellm"
_PACKAGED_FILE: Final = "litellm/model_prices_and_context_window_backup.json"
_PUBLIC_FILE: Final = "model_prices_and_context_window.json"

#: The public catalogue has two megabytes; what is so much larger is another file.
_LARGEST_FILE: Final = 64 << 20
_LONGEST_LINE: Final = 1 << 20
#: A matcher remembers its answers; after this many different names it starts anew.
_REMEMBERED: Final = 10_000

_RATE_KEYS: Final = (
    "input_per_mtok",
    "output_per_mtok",
    "cache_write_per_mtok",
    "cache_read_per_mtok",
)
#: How a price table spells the third of them.
_ALIAS: Final = "cache_creation_per_mtok"
_A_ROW: Final = (
    '[{"model_pattern":"my-model","source":"custom","updated_at":null,"input_per_mtok":1.25,'
    '"output_per_mtok":5,"cache_write_per_mtok":0,"cache_read_per_mtok":0.1}]'
)

_WHY: Final = {
    "exact": "the same name",
    "dashed": "the same name with dashes for dots",
    "case": "the same name but for case",
    "dashed-case": "the same name but for case, with dashes for dots",
    "canonical": "the same letters and digits, but for provider, group or date",
    "none": "no pattern is equal, exactly or loosely",
}


@click.group(
    epilog=examples(
        "exporter pricing show claude-sonnet-4-6",
        "exporter pricing import model_prices_and_context_window.json",
        "exporter pricing digest",
    )
)
def pricing() -> None:
    """Bring prices in, show which are in force and why, and print their digest."""


# -- import -------------------------------------------------------------------------------------


@pricing.command(
    "import",
    epilog=examples(
        "exporter pricing import model_prices_and_context_window.json --dry-run",
        "exporter pricing import litellm --json",
        "curl -sS https://example.net/prices.json | exporter pricing import -",
    ),
)
@click.argument("catalogue", metavar="FILE|litellm")
@click.option("--dry-run", is_flag=True, help="Only count; change nothing.")
@database_option
@json_option
def import_prices(catalogue: str, dry_run: bool, settings: Settings, as_json: bool) -> None:
    """Import LiteLLM's public price catalogue: a JSON FILE, or that of the installed package.

    "-" reads the file from stdin, "./litellm" names a file of that name. One bad entry refuses
    the whole catalogue. Rates that stay as they are keep their time, models that the catalogue
    lacks keep their price, and costs that change are worked out again at once.
    """
    from exporter.db.connect import read_snapshot, session

    text, location = _read_catalogue(catalogue)
    rows = _parsed(text, location)
    with session(settings, application_name="exporter pricing import") as conn:
        if dry_run:
            with read_snapshot(conn):
                counts = _compare(conn, rows)
        else:
            counts = _store(conn, rows, location)
    facts: dict[str, Any] = {
        "location": location,
        "models": len(rows),
        **counts,
        "dry_run": dry_run,
    }
    if as_json:
        render.print_json(facts)
    else:
        render.print_facts([(name.replace("_", " "), value) for name, value in facts.items()])


def _read_catalogue(name: str) -> tuple[bytes, str]:
    """The catalogue's bytes, and where they are from; raises SourceUnreadable."""
    from exporter.core.text import storable

    if name == _PACKAGE:
        return _packaged_catalogue()
    if name == "-":
        return _whole(stdin_bytes(), "stdin"), "stdin"
    if "://" in name:
        raise SourceUnreadable(
            f"{scheme_of(name)}…",
            "nothing is fetched over the network",
            hint=f"download {_PUBLIC_FILE} and name it, or pipe it in with -",
        )
    path = given_path("FILE", name)
    return _read_file(path), storable(str(path.absolute()))[0]


def _packaged_catalogue() -> tuple[bytes, str]:
    """The file inside the installed package, which is found without running that package."""
    from importlib.metadata import PackageNotFoundError, distribution

    way_out = f"name a file instead, such as a downloaded {_PUBLIC_FILE}"
    try:
        package = distribution(_PACKAGE)
    except PackageNotFoundError:
        raise SourceUnreadable(
            _PACKAGE,
            "no package of that name is installed",
            hint=f"run 'pip install {_PACKAGE}', or {way_out}",
        ) from None
    location = f"{_PACKAGE} {package.version}"
    path = Path(str(package.locate_file(_PACKAGED_FILE)))
    if not path.is_file():
        raise SourceUnreadable(location, f"it holds no {_PACKAGED_FILE}", hint=way_out)
    return _read_file(path), location


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return _whole(file, str(path))
    except OSError as error:
        raise SourceUnreadable(str(path), (error.strerror or "no access").lower()) from None


def _whole(file: IO[bytes], name: str) -> bytes:
    text = file.read(_LARGEST_FILE + 1)
    if len(text) > _LARGEST_FILE:
        raise SourceUnreadable(
            name, f"it is larger than {_LARGEST_FILE >> 20} MiB", hint="this cannot be meant"
        )
    return text


def _parsed(text: bytes, location: str) -> list[PriceRow]:
    """The catalogue's rows; one that cannot be read or stored refuses all."""
    from exporter.core.intake import MAX_LABEL_BYTES
    from exporter.core.pricing import CatalogueError, parse_catalogue
    from exporter.core.text import storable

    try:
        rows = parse_catalogue(text)
        for row in rows:
            if storable(row.pattern)[1]:
                raise CatalogueError(row.pattern, None, "the name holds a NUL or half a character")
            if len(row.pattern.encode()) > MAX_LABEL_BYTES:
                reason = f"the name is longer than {MAX_LABEL_BYTES} bytes"
                raise CatalogueError(row.pattern[:60] + "…", None, reason)
    except CatalogueError as error:
        raise ExporterError(
            f"{location} was refused: {_shortened(str(error))}",
            hint="nothing was changed, the prices stored before stay in force",
        ) from None
    return rows


def _shortened(text: str, most: int = 400) -> str:
    """The text, its middle left out where a name in it has no end; the reason stands last."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} … {text[-half:]}"


def _store(conn: Connection[Any], rows: Sequence[PriceRow], location: str) -> dict[str, int]:
    """Write the rows, and all that follows from them, in one transaction; returns the counts."""
    import time
    from datetime import UTC, datetime

    from exporter.exports.facts import hold_prices
    from exporter.importers import load
    from exporter.importers.source import SourceInfo, SourcePrice

    started = time.monotonic()
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with conn.transaction():
        hold_prices(conn)
        counts = _compare(conn, rows)
        # The built-in rows keep having no time: any source that knows better comes before them.
        dated = [(row, now) for row in rows] + [(row, "") for row in _stand_ins(conn, rows)]
        info = SourceInfo(_KIND, _ARCHIVE_ID, "", location, "", None)
        source_id, watermark = load.register_source(conn, info)
        prices = (
            SourcePrice(row.pattern, r.input, r.output, r.cache_write, r.cache_read, updated_at)
            for row, r, updated_at in ((row, row.rates, at) for row, at in dated)
        )
        if load.update_prices(conn, source_id, prices):
            seconds = time.monotonic() - started
            load.finish_run(conn, source_id, seconds, dict(counts), watermark)
    return counts


def _compare(conn: Connection[Any], rows: Sequence[PriceRow]) -> dict[str, int]:
    """How the catalogue differs from what it brought last; ``kept`` are models that it lacks."""
    from exporter.exports.facts import prices_of_source

    known = prices_of_source(conn, _KIND, _ARCHIVE_ID)
    brought = {row.pattern: row.rates for row in rows}
    same = sum(known.get(pattern) == rates for pattern, rates in brought.items())
    new = len(brought.keys() - known.keys())
    return {
        "new": new,
        "changed": len(brought) - new - same,
        "same": same,
        "kept": len(known.keys() - brought.keys()) + len(_stand_ins(conn, rows)),
    }


def _stand_ins(conn: Connection[Any], rows: Sequence[PriceRow]) -> list[PriceRow]:
    """Built-in prices that stand in for an empty table and that the catalogue lacks.

    They must be stored with it: the first stored row ends their standing in, and an import that
    brings prices would take others away.
    """
    from exporter.core.pricing import METADATA_PREFIX
    from exporter.db.prices import price_table
    from exporter.exports.facts import price_origins

    brought = {row.pattern for row in rows}
    if all(pattern.startswith(METADATA_PREFIX) for pattern in brought):
        return []
    # A row in force that no source brought can only be a built-in one.
    stored = price_origins(conn)
    in_force = price_table(conn).rows
    return [row for row in in_force if row.pattern not in stored and row.pattern not in brought]


# -- show ---------------------------------------------------------------------------------------


@pricing.command(
    epilog=examples(
        "exporter pricing show",
        "exporter pricing show claude-sonnet-4-6 'Nimbus 7 (High)'",
        "exporter pricing show - --json < models.txt",
        "exporter pricing show gpt-5.4 --patterns patterns.json",
    )
)
@click.argument("models", metavar="[MODEL ...|-]", nargs=-1)
@click.option(
    "--patterns",
    "patterns_file",
    metavar="FILE",
    help="Match against a JSON list of patterns; no database is opened and no rate is known.",
)
@custom_prices_option
@database_option
@json_option
def show(
    models: tuple[str, ...],
    patterns_file: str | None,
    custom_rates: Mapping[str, Rates] | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Show which price each MODEL has, from where and why; without one, the prices as a whole.

    "-" reads models from stdin, one per line. Rates are US dollars per million tokens.
    """
    values = values_of(models, "MODEL")
    if patterns_file is not None:
        _refuse_beside("--patterns", "custom_rates", "--custom-prices")
        if not models:
            raise BadInput("MODEL", "no name to match", accepted="names, or - to read them")
        answers = _Answers(dict.fromkeys(_read_patterns(patterns_file)), {})
    else:
        table, origins = _archive_prices(settings, custom_rates)
        if not models:
            return _show_summary(table, origins, custom_rates or {}, as_json)
        texts = {
            row.pattern: _origin(row, origins, table, custom_rates or {}) for row in table.rows
        }
        answers = _Answers({row.pattern: row for row in table.rows}, texts)
    for index, model in enumerate(values):
        match, answer = answers.of(model)
        if as_json:
            print_wire(answer)
        else:
            sys.stdout.write("\n" if index else "")
            render.print_facts(_in_words(match, answer))


def _archive_prices(
    settings: Settings, custom_rates: Mapping[str, Rates] | None
) -> tuple[PriceTable, Mapping[str, PriceOrigin]]:
    """The prices in force, and who brought them, as of one instant."""
    from exporter.db.connect import read_snapshot, session
    from exporter.db.prices import price_table
    from exporter.exports.facts import price_origins

    with session(settings) as conn, read_snapshot(conn):
        return price_table(conn, custom_rates), price_origins(conn)


class _Answers:
    """Answers for model names, in memory that does not grow with their number."""

    def __init__(self, rows: Mapping[str, PriceRow | None], origins: Mapping[str, _Origin]) -> None:
        self._rows = rows
        self._origins = origins
        self._renew()

    def _renew(self) -> None:
        from exporter.core.pricing import ModelMatcher

        self._matcher = ModelMatcher(self._rows)
        self._asked = 0

    def of(self, model: str) -> tuple[Match, dict[str, Any]]:
        """How the model matched, and the answer as it is printed, keys in order."""
        from exporter.core.pricing import Rates

        if self._asked == _REMEMBERED:
            self._renew()
        self._asked += 1
        match = self._matcher.explain(model)
        row = self._rows[match.pattern] if match.pattern is not None else None
        rates = row.rates if row else Rates()
        origin, updated_at = self._origins.get(match.pattern or "", (None, None))
        return match, {
            "model": model,
            "matched_pattern": match.pattern,
            "input_cost_per_mtok": rates.input,
            "output_cost_per_mtok": rates.output,
            "cache_write_cost_per_mtok": rates.cache_write,
            "cache_read_cost_per_mtok": rates.cache_read,
            "source": row.source.value if row else None,
            "step": match.step.value,
            "candidates": list(match.equals) if len(match.equals) > 1 else [],
            "origin": origin if row else None,
            "updated_at": updated_at if row else None,
        }


#: Where a row is from in words, and the stored time of its rates.
_Origin = tuple[str, str | None]


def _origin(
    row: PriceRow,
    origins: Mapping[str, PriceOrigin],
    table: PriceTable,
    custom_rates: Mapping[str, Rates],
) -> _Origin:
    if row.pattern in custom_rates:
        return "--custom-prices", None
    found = origins.get(row.pattern)
    if found is None:
        return f"built-in {table.snapshot_version}", None
    return f"{found.kind} {found.location}", found.updated_at or None


def _in_words(match: Match, answer: Mapping[str, Any]) -> list[tuple[str, render.Cell]]:
    from exporter.core.numbers import wire_number_text

    why = _WHY[match.step.value]
    if match.ambiguous:
        why = f"unpriced: {len(match.equals)} patterns fit alike: {', '.join(match.equals)}"
    elif len(match.equals) > 1:
        why += f"; the first of {', '.join(match.equals)}"
    facts: list[tuple[str, render.Cell]] = [
        ("model", match.model),
        ("pattern", match.pattern),
        ("why", why),
    ]
    if answer["source"] is None:
        return facts
    for name in ("input", "output", "cache_write", "cache_read"):
        rate = wire_number_text(answer[f"{name}_cost_per_mtok"])
        facts.append((name.replace("_", " "), f"{rate} USD per million tokens"))
    facts += [("source", answer["source"]), ("from", answer["origin"])]
    return [*facts, ("rates since", answer["updated_at"])]


def _show_summary(
    table: PriceTable,
    origins: Mapping[str, PriceOrigin],
    custom_rates: Mapping[str, Rates],
    as_json: bool,
) -> None:
    """The prices as a whole: what an export says of them, and how many rows who brought."""
    with _pricing_failures():
        block = table.block({})
    sources = Counter(row.source.value for row in table.rows)
    brought = Counter(_origin(row, origins, table, custom_rates)[0] for row in table.rows)
    facts: dict[str, Any] = {
        "source": block.source,
        "table_version": block.table_version,
        "latest_row_updated_at": block.latest_row_updated_at,
        "effective_row_count": block.effective_row_count,
        "embedded_row_count": sources["embedded"],
        "fetched_row_count": sources["fetched"],
        "custom_override_count": block.custom_override_count,
        "digest": block.digest,
    }
    if as_json:
        render.print_json({**facts, "origins": dict(brought.most_common())})
        return
    shown: list[tuple[str, render.Cell]] = [
        (name.replace("_", " "), value) for name, value in facts.items()
    ]
    shown += [("rows brought", f"{count:,} by {name}") for name, count in brought.most_common()]
    render.print_facts(shown)


def _read_patterns(name: str) -> list[str]:
    value = _read_json("--patterns", name, '["claude-sonnet-4-6","gpt-5.4"]')
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadInput("--patterns", f"{name} is no JSON list of texts", accepted='["a","b"]')
    return value


# -- digest -------------------------------------------------------------------------------------


@pricing.command(
    epilog=examples(
        "exporter pricing digest",
        "exporter pricing digest --rows rows.json --canonical",
        "exporter pricing digest --custom-prices mine.toml --json",
    )
)
@click.option(
    "--rows", "rows_file", metavar="FILE", help='A JSON list of price rows; "-" is stdin.'
)
@click.option("--canonical", is_flag=True, help="Print the text that the digest is made of.")
@custom_prices_option
@database_option
@json_option
def digest(
    rows_file: str | None,
    canonical: bool,
    custom_rates: Mapping[str, Rates] | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Print the digest of the prices in force, or of those in a file: "sha256:" and hex digits.

    A row of the file has the keys model_pattern, source (embedded, fetched or custom), updated_at
    (a time or null), input_per_mtok, output_per_mtok, cache_write_per_mtok (also spelled
    cache_creation_per_mtok) and cache_read_per_mtok. With it, no database is opened.
    """
    from exporter.core.canonical import digest as digest_of
    from exporter.core.pricing import canonical_text

    rows: Sequence[PriceRow]
    if rows_file is not None:
        _refuse_beside("--rows", "custom_rates", "--custom-prices")
        rows = _read_rows(rows_file)
    else:
        rows = _archive_prices(settings, custom_rates)[0].rows
    with _pricing_failures():
        text = canonical_text(rows)
    found = digest_of(text.encode())
    if as_json:
        answer: dict[str, Any] = {"digest": found, "row_count": len(rows)}
        render.print_json({**answer, "canonical": text} if canonical else answer)
    else:
        click.echo(text if canonical else found)


def _read_rows(name: str) -> list[PriceRow]:
    value = _read_json("--rows", name, _A_ROW)
    if not isinstance(value, list):
        raise BadInput("--rows", f"{name} is no JSON list", accepted=_A_ROW)
    rows = [_row(number, item) for number, item in enumerate(value, 1)]
    undated = sum(
        row.updated_at_ns is None and bool(item.get("updated_at"))
        for row, item in zip(rows, value, strict=True)
    )
    if undated:
        render.note(f"{undated} of the rows have an updated_at that is no time: it counts as null")
    return rows


def _row(number: int, item: Any) -> PriceRow:
    """One row of a file; raises BadInput, naming its number and the key at fault."""
    from exporter.core.pricing import PriceRow, Rates, RateSource
    from exporter.core.times import parse_strict_ns

    def refuse(problem: str) -> BadInput:
        return BadInput("--rows", f"row {number} {problem}", accepted=_A_ROW)

    if not isinstance(item, dict):
        raise refuse("is no object")
    row = dict(item)
    if _ALIAS in row:
        if _RATE_KEYS[2] in row:
            raise refuse(f"has both {_RATE_KEYS[2]} and {_ALIAS}")
        row[_RATE_KEYS[2]] = row.pop(_ALIAS)
    known = {"model_pattern", "source", "updated_at", *_RATE_KEYS}
    if odd := sorted(known ^ row.keys()):
        raise refuse(f"{'lacks' if odd[0] in known else 'has an unknown key,'} {odd[0]!r}")
    if not isinstance(row["model_pattern"], str):
        raise refuse("has a model_pattern that is no text")
    if row["source"] not in [source.value for source in RateSource]:
        raise refuse(f"has a source that is none of {', '.join(RateSource)}")
    if not isinstance(row["updated_at"], str | None):
        raise refuse("has an updated_at that is neither text nor null")
    for key in _RATE_KEYS:
        # The reader makes every number a float; true and false are none.
        if not isinstance(row[key], float):
            raise refuse(f"has a {key} that is no number")
    rates = Rates(*(row[key] for key in _RATE_KEYS))
    updated_at_ns = parse_strict_ns(row["updated_at"]) if row["updated_at"] else None
    return PriceRow(row["model_pattern"], rates, RateSource(row["source"]), updated_at_ns)


# -- shared -------------------------------------------------------------------------------------


def values_of(values: Sequence[str], name: str) -> Iterator[str]:
    """The arguments, or for a single ``-`` the lines of stdin, read one by one.

    Every line is a value, an empty one too, so that answers and lines correspond. Bytes that are
    not UTF-8 become surrogate escapes, as they are in arguments. Raises BadInput, naming the
    argument, for ``-`` beside other values and for a line of more than a mebibyte.
    """
    if "-" not in values:
        return iter(values)
    if len(values) > 1:
        raise BadInput(name, "- stands beside others", accepted="values, or a single - for stdin")
    return _lines(stdin_bytes(), name)


def _lines(file: IO[bytes], name: str) -> Iterator[str]:
    number = 0
    while line := file.readline(_LONGEST_LINE + 2):
        number += 1
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        if len(line) > _LONGEST_LINE:
            problem = f"line {number} of stdin is longer than {_LONGEST_LINE} bytes"
            raise BadInput(name, problem, accepted="one value per line")
        yield line.decode("utf-8", "surrogateescape")


def print_wire(answer: Mapping[str, Any]) -> None:
    """One JSON object on one line, its numbers and texts written as in an export."""
    from exporter.core import wire

    sys.stdout.write(wire.encode(answer).decode() + "\n")


def _read_json(option: str, name: str, accepted: str) -> Any:
    """The JSON value in a file, all numbers as floats; raises BadInput that names the option."""
    import json

    try:
        text = _whole(stdin_bytes(), name) if name == "-" else None
        if text is None:
            text = _read_file(given_path(option, name))
        return json.loads(text.decode(), parse_int=float)
    except SourceUnreadable as error:
        raise BadInput(option, error.message, accepted=accepted) from None
    except (ValueError, RecursionError) as error:
        raise BadInput(option, f"{name} is no JSON ({error})", accepted=accepted) from None


def _refuse_beside(option: str, parameter: str, other: str) -> None:
    """Refuse an option that says nothing beside another; its variable may stay set."""
    source = click.get_current_context().get_parameter_source(parameter)
    if source is click.core.ParameterSource.COMMANDLINE:
        raise BadInput(other, f"has no use beside {option}", accepted="one of the two")


@contextmanager
def _pricing_failures() -> Iterator[None]:
    """A price row that no digest can be made of is a failure that names the row."""
    from exporter.core.pricing import PricingError

    try:
        yield
    except PricingError as error:
        raise ExporterError(
            _shortened(str(error)), hint="correct that row, no digest exists"
        ) from None
