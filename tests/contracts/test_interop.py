"""A document of ours opens unchanged in the tools that people use: each sums its cost."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.contracts import golden

JSON = golden.SESSIONS / "expected.json"
NDJSON = golden.SESSIONS / "expected.ndjson"
COST = sum(row["model_usage"]["cost_usd"] for row in golden.document()["sessions"])


def near(value: Any) -> bool:
    return bool(value == pytest.approx(COST, abs=1e-9))


def test_the_sum_is_what_the_tools_are_held_against() -> None:
    assert near(0.01975)


@pytest.mark.parametrize(
    ("program", "file"),
    [
        ("[.sessions[].model_usage.cost_usd] | add", JSON),
        ('[inputs | select(.type != "meta") | .model_usage.cost_usd] | add', NDJSON),
    ],
)
def test_jq(program: str, file: Path) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    options = ["-n"] if file is NDJSON else []
    done = subprocess.run(
        ["jq", *options, program, file], capture_output=True, check=True, timeout=60
    )
    assert near(json.loads(done.stdout))


@pytest.mark.parametrize(
    "query",
    [
        f"SELECT sum(model_usage.cost_usd) FROM read_json('{NDJSON}') WHERE id IS NOT NULL",
        "SELECT sum(session.model_usage.cost_usd)"
        f" FROM (SELECT unnest(sessions) AS session FROM read_json('{JSON}'))",
    ],
    ids=["ndjson", "json"],
)
def test_duckdb(query: str) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    assert near(duckdb.sql(query).fetchall()[0][0])


def test_polars() -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    lines = polars.read_ndjson(NDJSON).filter(polars.col("id").is_not_null())
    whole = polars.read_json(JSON).select("sessions").explode("sessions").unnest("sessions")
    for sessions in (lines, whole):
        cost = polars.col("model_usage").struct.field("cost_usd").sum()
        assert near(sessions.select(cost).item())


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    lines = pandas.read_json(NDJSON, lines=True, dtype=False).dropna(subset=["id"])
    assert near(lines["model_usage"].str["cost_usd"].sum())
    whole = pandas.json_normalize(json.loads(JSON.read_bytes())["sessions"])
    assert near(whole["model_usage.cost_usd"].sum())
