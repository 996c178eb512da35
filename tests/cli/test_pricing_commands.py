"""``exporter pricing``: published vectors through the commands, and what an import does."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pytest

from exporter.cli import pricing
from exporter.cli.main import run
from tests.archives.pipeline import Pipeline
from tests.interop.origin import Result

GOLDEN = Path(__file__).parents[2] / "golden" / "pricing"
NOWHERE = "postgresql://me:hunter2@127.0.0.1:1/archive"
RATES = (
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_creation_input_token_cost",
    "cache_read_input_token_cost",
)

Tell = Callable[..., Result]


def golden(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    return cases


@pytest.fixture(scope="module")
def _pipeline(
    make_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    with Pipeline(make_database(), tmp_path_factory.mktemp("pipeline")) as pipeline:
        yield pipeline


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Tell:
    """Run ``exporter pricing`` with arguments and stdin, as a process would, but within this one.

    Without a world there is no database: one that is opened all the same fails the command.
    """
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("EXPORTER_DATABASE_URL", NOWHERE)

    def tell(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        capfd.readouterr()
        code = run(["pricing", *arguments])
        return Result(code, *capfd.readouterr())

    return tell


@pytest.fixture
def world(_pipeline: Pipeline, tell: Tell, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """An empty archive, which the commands of the test find by themselves."""
    _pipeline.begin_again()
    _pipeline.forget_prices()
    monkeypatch.setenv("EXPORTER_DATABASE_URL", _pipeline.url)
    yield _pipeline
    (_pipeline.path.parent / "config.toml").unlink(missing_ok=True)


def answers(result: Result) -> list[dict[str, Any]]:
    """The JSON objects of a run that succeeded without a word."""
    assert (result.exit, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def only(result: Result) -> dict[str, Any]:
    (answer,) = answers(result)
    return answer


def refused(result: Result, code: int, *words: str) -> None:
    assert (result.exit, result.stdout) == (code, "")
    assert result.stderr.startswith("fatal: ") and result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def catalogue(**models: tuple[float, ...]) -> bytes:
    """A catalogue's text, from rates in dollars for a million tokens."""
    costs = {
        name: {field: rate / 1e6 for field, rate in zip(RATES, rates, strict=False)}
        for name, rates in models.items()
    }
    return json.dumps(costs).encode()


def stored(world: Pipeline) -> dict[str, tuple[Any, ...]]:
    """Rates and time of the catalogue's rows, by pattern."""
    rows = world.conn.execute(
        "SELECT model_pattern, input_per_mtok, output_per_mtok, updated_at_text"
        " FROM source_prices JOIN sources USING (source_id) WHERE kind = 'catalogue'"
    )
    return {pattern: tuple(rest) for pattern, *rest in rows}


def everything(world: Pipeline) -> list[Any]:
    """All that an import of prices may write, row versions included."""
    tables = ("sources", "source_prices", "models", "model_rates", "session_lines", "import_runs")
    statement = "SELECT xmin, t::text FROM {} AS t ORDER BY 2"
    return [world.conn.execute(statement.format(name).encode()).fetchall() for name in tables]


# -- show ---------------------------------------------------------------------------------------


def test_every_published_match(tell: Tell, tmp_path: Path) -> None:
    file = tmp_path / "patterns.json"
    by_patterns = sorted(golden("match"), key=lambda case: json.dumps(case["patterns"]))
    seen = 0
    for patterns, group in groupby(by_patterns, key=lambda case: case["patterns"]):
        cases = list(group)
        file.write_text(json.dumps(patterns))
        models = "".join(case["model"] + "\n" for case in cases).encode()
        told = answers(tell("show", "-", "--json", "--patterns", str(file), stdin=models))
        for case, answer in zip(cases, told, strict=True):
            assert answer["model"] == case["model"], case["id"]
            assert answer["matched_pattern"] == case["matched"], case["id"]
            assert answer["step"] == case["step"], case["id"]
            if case["ambiguous"]:
                assert len(answer["candidates"]) > 1, case["id"]
            assert answer["source"] is None
            seen += 1
    assert seen == 74


def test_an_answer_has_its_keys_in_order_and_numbers_as_an_export_writes_them(
    world: Pipeline, tell: Tell
) -> None:
    with world.source() as archive:
        archive.add_price("grebe-1", 1e-7, 1e21, -0.5, 2.0)
    line = tell("show", "GREBE-1", "--json").stdout
    assert line == (
        '{"model":"GREBE-1","matched_pattern":"grebe-1","input_cost_per_mtok":1e-7,'
        '"output_cost_per_mtok":1e+21,"cache_write_cost_per_mtok":-0.5,'
        '"cache_read_cost_per_mtok":2,"source":"fetched","step":"case","candidates":[],'
        f'"origin":"agentsview-sqlite {world.path}","updated_at":"2026-02-10T06:30:00.250Z"}}\n'
    )


def test_an_unpriced_model_has_no_source_and_no_rates(world: Pipeline, tell: Tell) -> None:
    with world.source() as archive:
        archive.add_price("vela/grebe")
        archive.add_price("orion/grebe")
    one, other = answers(tell("show", "grebe", "heron", "--json"))
    assert (one["matched_pattern"], one["source"], one["origin"]) == (None, None, None)
    assert one["candidates"] == ["orion/grebe", "vela/grebe"]
    assert (other["step"], other["candidates"], other["input_cost_per_mtok"]) == ("none", [], 0)
    told = tell("show", "grebe").stdout
    assert "2 patterns fit alike: orion/grebe, vela/grebe" in told


def test_in_words_a_price_says_where_it_is_from(world: Pipeline, tell: Tell) -> None:
    told = tell("show", "gpt-5.2-codex", "no such model")
    assert told.exit == 0
    assert told.stdout == (
        "model        gpt-5.2-codex\n"
        "pattern      gpt-5.2-codex\n"
        "why          the same name\n"
        "input        1.75 USD per million tokens\n"
        "output       14 USD per million tokens\n"
        "cache write  0 USD per million tokens\n"
        "cache read   0.175 USD per million tokens\n"
        "source       embedded\n"
        "from         built-in litellm-398a0b15378c\n"
        "rates since  -\n"
        "\n"
        "model    no such model\n"
        "pattern  -\n"
        "why      no pattern is equal, exactly or loosely\n"
    )


def test_the_summary_says_what_an_export_says(world: Pipeline, tell: Tell) -> None:
    with world.source() as archive:
        session = archive.add_session()
        archive.add_message(session, model="grebe", token_usage={"input_tokens": 5})
        archive.add_price("grebe")
        archive.add_price("gpt-5.2-codex", 1.75, 14, 0, 0.175)
        archive.add_price("_fallback_version", 0, 0, 0, 0)
    block = world.export()["pricing"]
    summary = only(tell("show", "--json"))
    counts = {name: summary.pop(f"{name}_row_count") for name in ("embedded", "fetched")}
    assert counts == {"embedded": 1, "fetched": 1}
    assert summary.pop("origins") == {f"agentsview-sqlite {world.path}": 2}
    assert summary == {name: block[name] for name in summary}
    assert only(tell("digest", "--json")) == {"digest": block["digest"], "row_count": 2}
    told = tell("show").stdout
    assert f"digest                 {block['digest']}\n" in told
    assert f"rows brought           2 by agentsview-sqlite {world.path}\n" in told


def test_of_several_sources_the_newest_wins_and_is_named(world: Pipeline, tell: Tell) -> None:
    with world.source() as archive:
        archive.add_price("old", 1, updated_at="2026-02-10T06:30:00Z")
        archive.add_price("new", 1, updated_at="9000-01-01T00:00:00Z")
        archive.add_price("undated", 1, updated_at="")
    tell("import", "-", stdin=catalogue(old=(2,), new=(2,), undated=(2,)))
    told = answers(tell("show", "old", "new", "undated", "--json"))
    assert [answer["input_cost_per_mtok"] for answer in told] == [2, 1, 2]
    kinds = [answer["origin"].partition(" ")[0] for answer in told]
    assert kinds == ["catalogue", "agentsview-sqlite", "catalogue"]


def test_custom_rates_come_before_all_others(world: Pipeline, tell: Tell, tmp_path: Path) -> None:
    config = "[custom_model_pricing.{}]\ninput = {}\n"
    (world.path.parent / "config.toml").write_text(config.format("grebe", 7))
    with world.source() as archive:
        archive.add_price("grebe", 1, updated_at="9000-01-01T00:00:00Z")
    tell("import", "-", stdin=catalogue(grebe=(2,)))
    told = only(tell("show", "grebe", "--json"))
    assert (told["input_cost_per_mtok"], told["source"]) == (7, "custom")
    assert told["origin"] == f"agentsview-sqlite {world.path}"

    mine = tmp_path / "mine.toml"
    mine.write_text(config.format("grebe", 9))
    told = only(tell("show", "grebe", "--json", "--custom-prices", str(mine)))
    assert (told["input_cost_per_mtok"], told["source"]) == (9, "custom")
    assert (told["origin"], told["updated_at"]) == ("--custom-prices", None)
    without, with_mine = tell("digest"), tell("digest", "--custom-prices", str(mine))
    assert without.stdout.startswith("sha256:") and without.stdout != with_mine.stdout


def test_answers_stay_right_when_the_memory_of_names_is_full(
    tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pricing, "_REMEMBERED", 2)
    (tmp_path / "p.json").write_text('["grebe"]')
    models = b"Grebe\nheron\n" * 4
    told = answers(tell("show", "-", "--json", "--patterns", f"{tmp_path}/p.json", stdin=models))
    assert [answer["matched_pattern"] for answer in told] == ["grebe", None] * 4


def test_stdin_is_read_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        lines = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            self.lines += 1
            return b"model-%d\r\n" % self.lines

    source = Endless()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO())))  # type: ignore[arg-type]
    monkeypatch.setattr(pricing.sys, "stdin", type("Stdin", (), {"buffer": source}))
    assert list(islice(pricing.values_of(["-"], "MODEL"), 3)) == ["model-1", "model-2", "model-3"]
    assert source.lines == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "-", "grebe"], "- stands beside others"),
        (["show", "--patterns", "{folder}/good.json"], "no name to match"),
        (["show", "x", "--patterns", "{folder}/missing.json"], "no such file"),
        (["show", "x", "--patterns", "{folder}"], "is a directory"),
        (["show", "x", "--patterns", "{folder}/broken.json"], "is no JSON"),
        (["show", "x", "--patterns", "{folder}/numbers.json"], "no JSON list of texts"),
        (["show", "x", "--patterns", "{folder}/good.json", "--custom-prices", "{folder}/c.toml"],
         "no use beside --patterns"),
        (["digest", "--rows", "{folder}/missing.json"], "no such file"),
        (["digest", "--rows", "{folder}/object.json"], "no JSON list"),
        (["digest", "--rows", "{folder}/numbers.json"], "row 1 is no object"),
        (["digest", "--rows", "{folder}/good.json", "--custom-prices", "{folder}/c.toml"],
         "no use beside --rows"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_exits_2(
    tell: Tell, tmp_path: Path, arguments: list[str], said: str
) -> None:
    files = {"good": '["a"]', "broken": "[", "numbers": "[1]", "object": "{}"}
    for name, text in files.items():
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / "c.toml").write_text("[custom_model_pricing.a]\n")
    refused(tell(*(part.format(folder=tmp_path) for part in arguments)), 2, said, "accepted: ")


def test_a_line_without_end_is_refused(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pricing, "_LONGEST_LINE", 10)
    assert [*pricing.values_of(["a" * 11], "MODEL")] == ["a" * 11]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a" * 10 + b"\r\n" + b"a" * 11)))
    values = pricing.values_of(["-"], "MODEL")
    assert next(values) == "a" * 10
    with pytest.raises(pricing.BadInput, match="line 2 of stdin is longer than 10 bytes"):
        next(values)


def test_without_a_file_the_database_is_needed(tell: Tell) -> None:
    for arguments in (["show"], ["show", "grebe"], ["digest"]):
        result = tell(*arguments)
        refused(result, 1, "does not answer")
        assert "hunter2" not in result.stderr


# -- digest -------------------------------------------------------------------------------------


def test_every_published_digest(tell: Tell) -> None:
    cases = golden("digest")
    for case in cases:
        rows = json.dumps(case["rows"]).encode()
        for flags, text in (([], case["digest"]), (["--canonical"], case["canonical"])):
            told = tell("digest", "--rows", "-", *flags, stdin=rows)
            assert (told.exit, told.stdout) == (0, text + "\n"), case["id"]
    assert len(cases) == 22


ROW = {
    "model_pattern": "grebe",
    "source": "fetched",
    "updated_at": None,
    "input_per_mtok": 1,
    "output_per_mtok": 2,
    "cache_write_per_mtok": 3,
    "cache_read_per_mtok": 4,
}


def test_every_published_time_counts_as_the_contract_says(tell: Tell) -> None:
    for case in golden("timestamp"):
        rows = json.dumps([{**ROW, "updated_at": case["stored"]}]).encode()
        told = tell("digest", "--rows", "-", "--canonical", stdin=rows)
        (row,) = json.loads(told.stdout)["rows"]
        assert row["updated_at"] == case["seconds"], case["id"]
        assert bool(told.stderr) == bool(case["stored"] and not case["seconds"])


@pytest.mark.parametrize("case", golden("digest_error"), ids=lambda case: case["id"])
def test_a_rate_that_is_not_finite_has_no_digest(tell: Tell, case: dict[str, Any]) -> None:
    rows = json.dumps(
        [ROW, {**ROW, "model_pattern": "bad", "cache_read_per_mtok": float(case["rate"])}]
    )
    refused(tell("digest", "--rows", "-", stdin=rows.encode()), 1, "'bad'", "finite")


def test_cache_creation_is_another_name_for_cache_write(tell: Tell) -> None:
    other = {name.replace("write", "creation"): value for name, value in ROW.items()}
    told = [
        tell("digest", "--rows", "-", "--json", stdin=json.dumps([row]).encode()).stdout
        for row in (ROW, other)
    ]
    assert told[0] == told[1]
    both = json.dumps([{**ROW, **other}]).encode()
    refused(tell("digest", "--rows", "-", stdin=both), 2, "row 1 has both")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input_per_mtok": "1"}, "row 2 has a input_per_mtok that is no number"),
        ({"input_per_mtok": True}, "is no number"),
        ({"model_pattern": None}, "model_pattern that is no text"),
        ({"source": "guessed"}, "none of embedded, fetched, custom"),
        ({"source": ["custom"]}, "none of embedded, fetched, custom"),
        ({"updated_at": 5}, "neither text nor null"),
        ({"colour": "red"}, "unknown key, 'colour'"),
    ],
)
def test_a_row_that_cannot_be_meant_is_named(tell: Tell, change: dict[str, Any], said: str) -> None:
    rows = json.dumps([ROW, {**ROW, **change}]).encode()
    refused(tell("digest", "--rows", "-", stdin=rows), 2, "row 2", said)


def test_a_missing_key_is_named(tell: Tell) -> None:
    rows = json.dumps([{name: ROW[name] for name in ROW if name != "source"}]).encode()
    refused(tell("digest", "--rows", "-", stdin=rows), 2, "row 1 lacks 'source'")


def test_the_digest_of_the_archive_is_that_of_its_canonical_text(
    world: Pipeline, tell: Tell
) -> None:
    text = tell("digest", "--canonical").stdout.removesuffix("\n")
    expected = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    assert tell("digest").stdout == expected + "\n"
    rows = json.loads(text)["rows"]
    assert tell("digest", "--rows", "-", stdin=json.dumps(rows).encode()).stdout == expected + "\n"


# -- import -------------------------------------------------------------------------------------


def cost(world: Pipeline) -> float:
    value: float = world.rows()["a"]["usage"]["cost_usd"]
    return value


def priced_session(world: Pipeline) -> None:
    """A session that used a million tokens of model grebe, at one dollar."""
    with world.source() as archive:
        archive.add_session("a")
        for ordinal in (1, 3):
            usage = {"input_tokens": 500_000, "output_tokens": 0}
            archive.add_message("a", ordinal=ordinal, model="grebe", token_usage=usage)
        archive.add_price("grebe", 1)


def test_new_prices_change_the_cost_of_sessions_at_once(world: Pipeline, tell: Tell) -> None:
    priced_session(world)
    (row,) = world.export()["sessions"]
    before = json.dumps(row)
    told = only(tell("import", "-", "--json", stdin=catalogue(grebe=(2.5, 0), heron=(1, 1))))
    assert told == {
        "location": "stdin", "models": 2, "new": 2, "changed": 0, "same": 0, "kept": 0,
        "dry_run": False,
    }  # fmt: skip
    (row,) = world.export()["sessions"]
    after = json.dumps(row)
    assert after != before
    assert '"cost_usd": 1' in before and '"cost_usd": 2.5' in after


def test_equal_rates_keep_their_time_and_vanished_models_stay(world: Pipeline, tell: Tell) -> None:
    with world.source() as archive:
        archive.add_price("heron")
    tell("import", "-", stdin=catalogue(kept=(1, 2), moved=(1, 2), gone=(1, 2)))
    first = stored(world)
    second = catalogue(kept=(1, 2), moved=(1, 3), added=(1, 2))
    told = only(tell("import", "-", "--json", stdin=second))
    counts = ("new", "changed", "same", "kept")
    assert [told[name] for name in counts] == [1, 1, 1, 1]
    now = stored(world)
    assert set(now) == {"kept", "moved", "gone", "added"}
    assert (now["kept"], now["gone"]) == (first["kept"], first["gone"])
    assert now["moved"][:2] == (1.0, 3.0)
    assert first["moved"][2] < now["moved"][2] == now["added"][2]
    assert len(now["added"][2]) == len("2026-03-04T10:30:01.000Z") and now["added"][2][-1] == "Z"


def test_the_same_catalogue_again_writes_nothing(world: Pipeline, tell: Tell) -> None:
    priced_session(world)
    tell("import", "-", stdin=catalogue(grebe=(2, 2)))
    before = everything(world)
    told = only(tell("import", "-", "--json", stdin=catalogue(grebe=(2, 2))))
    assert (told["new"], told["changed"], told["same"]) == (0, 0, 1)
    assert everything(world) == before


def test_a_dry_run_counts_alike_and_changes_nothing(world: Pipeline, tell: Tell) -> None:
    priced_session(world)
    before = everything(world)
    text = catalogue(grebe=(2, 2))
    told = only(tell("import", "-", "--json", "--dry-run", stdin=text))
    assert everything(world) == before
    assert told == {**only(tell("import", "-", "--json", stdin=text)), "dry_run": True}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"b":{"input_cost_per_token":1e-6},"a":{"input_cost_per_token":"3"}}',
         ["entry 'a'", "field 'input_cost_per_token'", "must be a number or null"]),
        (b'{"a":{"input_cost_per_token":1,"litellm_provider":5}}', ["field 'litellm_provider'"]),
        (b'{"a":{"output_cost_per_token":1e400}}', ["field 'output_cost_per_token'", "too large"]),
        (b'{"a":{"output_cost_per_token":1e303}}', ["no usable price"]),
        (b'{"a":{"output_cost_per_token":5e-318}}', ["no usable price"]),
        (b'{"a":[1]}', ["entry 'a'", "object or null"]),
        (b"[]", ["object of model names"]),
        (b"{} x", ["not JSON"]),
        (b"\xff", ["not UTF-8"]),
        (b"", ["not JSON"]),
        (b'{"a\\u0000":{"input_cost_per_token":1}}', ["a NUL"]),
        (b'{"\\ud800":{"input_cost_per_token":1}}', ["half a character"]),
        (b'{"' + b"x" * 5000 + b'":{"input_cost_per_token":1}}', ["longer than 1024 bytes"]),
        (b'{"' + b"x" * 5000 + b'":{"input_cost_per_token":[]}}', ["must be a number or null"]),
    ],
)  # fmt: skip
def test_a_bad_catalogue_changes_nothing_and_names_the_entry(
    world: Pipeline, tell: Tell, text: bytes, words: list[str]
) -> None:
    priced_session(world)
    tell("import", "-", stdin=catalogue(grebe=(2, 2)))
    before = everything(world)
    result = tell("import", "-", stdin=text)
    refused(result, 1, "stdin was refused: price catalogue", "nothing was changed", *words)
    assert len(result.stderr) < 700
    assert everything(world) == before


@pytest.mark.parametrize("text", [b"null", b"{}", b'{"a":null}'])
def test_a_catalogue_without_a_price_is_none(world: Pipeline, tell: Tell, text: bytes) -> None:
    told = only(tell("import", "-", "--json", stdin=text))
    assert (told["models"], told["kept"]) == (0, 0)
    assert only(tell("show", "gpt-5.2-codex", "--json"))["source"] == "embedded"


def test_built_in_prices_that_a_catalogue_lacks_stay_as_they_were(
    world: Pipeline, tell: Tell
) -> None:
    before = only(tell("show", "gpt-5.4", "--json"))
    built_in = only(tell("show", "--json"))["effective_row_count"]
    text = catalogue(**{"gpt-5.2-codex": (1.75, 14, 0, 0.175), "grebe": (9, 9)})
    first = only(tell("import", "-", "--json", stdin=text))
    assert (first["new"], first["kept"]) == (2, built_in - 1)
    assert only(tell("show", "--json"))["effective_row_count"] == built_in + 1
    same, kept = answers(tell("show", "gpt-5.2-codex", "gpt-5.4", "--json"))
    assert (same["source"], bool(same["updated_at"])) == ("embedded", True)
    assert kept == {**before, "origin": "catalogue stdin"}

    again = only(tell("import", "-", "--json", stdin=text))
    assert (again["same"], again["kept"]) == (2, built_in - 1)
    with world.source() as archive:
        archive.add_price("gpt-5.4", 77, updated_at="2020-01-01T00:00:00Z")
    assert only(tell("show", "gpt-5.4", "--json"))["input_cost_per_mtok"] == 77


def test_nothing_built_in_is_stored_beside_prices_of_a_source(world: Pipeline, tell: Tell) -> None:
    with world.source() as archive:
        archive.add_price("heron")
    told = only(tell("import", "-", "--json", stdin=catalogue(grebe=(1, 1))))
    assert told["kept"] == 0
    assert only(tell("show", "--json"))["effective_row_count"] == 2


def test_a_file_is_named_as_the_source(world: Pipeline, tell: Tell, tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_bytes(catalogue(grebe=(1, 1), _note=(1, 1)))
    told = tell("import", str(file))
    assert (told.exit, told.stdout.splitlines()[0]) == (0, f"location  {file}")
    shown = answers(tell("show", "grebe", "_note", "--json"))
    assert [answer["origin"] for answer in shown] == [f"catalogue {file}", None]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.json", ["no such file"]),
        (".", ["is a directory"]),
        ("https://me:hunter2@h/prices.json", ["https://…", "nothing is fetched", "download"]),
        ("litellm", ["no package of that name is installed", "pip install litellm"]),
    ],
)
def test_a_catalogue_that_cannot_be_read(
    tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = tell("import", name)
    refused(result, 1, *words)
    assert "hunter2" not in result.stderr


def test_a_file_that_cannot_be_a_catalogue_is_not_read_whole(
    tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pricing, "_LARGEST_FILE", 1 << 20)
    refused(tell("import", "-", stdin=b" " * ((1 << 20) + 1)), 1, "larger than 1 MiB")


def installed(folder: Path, text: bytes | None) -> None:
    """A package of the catalogue's name, which must not be run to read its file."""
    package, facts = folder / "litellm", folder / "litellm-9.8.7.dist-info"
    package.mkdir()
    facts.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: litellm\nVersion: 9.8.7\n")
    if text is not None:
        (package / "model_prices_and_context_window_backup.json").write_bytes(text)


def test_the_installed_package_is_read_without_running_it(
    world: Pipeline, tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, catalogue(grebe=(1, 1)))
    monkeypatch.syspath_prepend(tmp_path)
    told = only(tell("import", "litellm", "--json"))
    assert (told["location"], told["new"]) == ("litellm 9.8.7", 1)
    assert only(tell("show", "grebe", "--json"))["origin"] == "catalogue litellm 9.8.7"


def test_a_package_without_a_catalogue_is_said_to_have_none(
    tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, None)
    monkeypatch.syspath_prepend(tmp_path)
    refused(tell("import", "litellm"), 1, "litellm 9.8.7", "holds no", "name a file")
