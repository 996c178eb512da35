"""``exporter identity``: published vectors through the commands, and what labels stand for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.cli.identity import _normalized
from exporter.core.identity import path_identity, remote_identity
from tests.archives.pipeline import Pipeline
from tests.interop.origin import Result

GOLDEN = Path(__file__).parents[2] / "golden" / "identity"
NOWHERE = "postgresql://me:hunter2@127.0.0.1:1/archive"
FIELDS = ("raw", "normalized", "stored", "key")


def golden() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((GOLDEN / "remote.json").read_text("utf-8"))
    return cases


def tell(*arguments: str | bytes, stdin: bytes = b"", url: str = NOWHERE) -> Result:
    """Run ``exporter identity`` as a process."""
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "identity", *arguments],
        env={**os.environ, "EXPORTER_DATABASE_URL": url},
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def answers(result: Result) -> list[dict[str, Any]]:
    """The JSON objects of a run that succeeded without a word."""
    assert (result.exit, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def lines(*values: str) -> bytes:
    return "".join(value + "\n" for value in values).encode()


@pytest.fixture(scope="module")
def _pipeline(
    make_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    with Pipeline(make_database(), tmp_path_factory.mktemp("pipeline")) as pipeline:
        yield pipeline


@pytest.fixture
def world(_pipeline: Pipeline) -> Pipeline:
    """An empty source and an empty archive of ours."""
    _pipeline.begin_again()
    return _pipeline


# -- normalize ----------------------------------------------------------------------------------


def test_every_published_remote() -> None:
    """As a stream, but for the one value that holds a line break: that is an argument."""
    cases = golden()
    broken = [case for case in cases if "\n" in case["raw"]]
    whole = [case for case in cases if "\n" not in case["raw"]]
    told = answers(
        tell("normalize", "--json", "-", stdin=lines(*(case["raw"] for case in whole)))
    ) + answers(tell("normalize", "--json", *(case["raw"] for case in broken)))
    assert len(told) == 149
    for case, answer in zip(whole + broken, told, strict=True):
        expected = {name: case[name] for name in FIELDS}
        assert {name: answer[name] for name in FIELDS} == expected, case["id"]
        assert tuple(answer)[:4] == FIELDS
        assert set(answer) - set(FIELDS) <= {"suspect"}
        leaks = case.get("leaks_stored") or case.get("leaks_normalized")
        assert answer.get("suspect", False) >= bool(leaks), case["id"]


def test_only_suspect_remotes_are_marked() -> None:
    assert "suspect" not in _normalized("https://ci:s3cr3t@git.brook.example/kite/loom")
    assert _normalized("https://git.brook.example/x-access-token:s3cr3t/kite")["suspect"] is True
    # Not storable, since it looks like a path on a drive, but it has a comparable form.
    odd = _normalized("git@q:/kite/loom?token=s3cr3t")
    assert (odd["stored"], odd["suspect"]) == ("", True)


def test_the_table_shows_no_secret_and_never_what_was_given() -> None:
    cases = [case for case in golden() if "secret" in case]
    result = tell("normalize", "-", stdin=lines(*(case["raw"] for case in cases)))
    assert result.exit == 0
    shown = result.stdout.splitlines()
    assert shown[0].split() == ["value", "stored", "normalized", "key"]
    for case, line in zip(cases, shown[1:], strict=True):
        assert case["secret"] not in line, case["id"]
        assert (case["key"] or "-") in line
    leaking = sum(case["leaks_stored"] or case["leaks_normalized"] for case in cases)
    assert shown and int(result.stderr.partition(" ")[0]) >= leaking > 0
    assert "may hold a credential" in result.stderr


def test_the_table_is_aligned_and_shows_stored_forms() -> None:
    result = tell("normalize", "git@h.example:a/b.git", "/srv/a", "HTTPS://me@h.example/a/b?x=1")
    key = remote_identity("h.example:a/b")
    assert key is not None
    assert result == Result(
        0,
        "value  stored                 normalized     key\n"
        f"    1  h.example:a/b.git      h.example/a/b  {key.key}\n"
        "    2  -                      -              -\n"
        f"    3  https://h.example/a/b  h.example/a/b  {key.key}\n",
        "",
    )


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    for told in (
        answers(tell("normalize", "--json", "-", stdin=b"h:\xff\n")),
        answers(tell("normalize", "--json", b"h:\xff")),
    ):
        key = remote_identity("h:\udcff")
        assert key is not None
        assert told == [
            {"raw": "h:\ufffd", "normalized": "h/\ufffd", "stored": "h:\ufffd", "key": key.key}
        ]


@pytest.mark.parametrize("command", ["normalize", "show"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument"),
        (["-", "h:a"], "- stands beside others"),
        (["--nonsense"], "No such option"),
    ],
)
def test_wrong_usage_exits_2(command: str, arguments: list[str], said: str) -> None:
    result = tell(command, *arguments)
    assert (result.exit, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_line_without_end_is_refused() -> None:
    result = tell("normalize", "-", "--json", stdin=b"h:a\n" + b"x" * (1 << 20) + b"y\n")
    assert result.exit == 2
    assert result.stderr.startswith("fatal: REMOTE: line 2 of stdin is longer than")


# -- show ---------------------------------------------------------------------------------------


def keys(*identities: Any) -> list[str]:
    return sorted(identity.key for identity in identities)


@pytest.fixture
def projects(world: Pipeline) -> Pipeline:
    """Labels that are known by a remote, by a path, by their sessions, in two ways, not at all."""
    with world.source() as archive:
        for label in ("remote", "path", "ran", "ran-twice", "two", "secret", "nothing"):
            archive.add_session(label, project=label)
        archive.add_observation("remote", git_remote="git@h.example:a/b.git")
        archive.add_observation("remote", git_remote="https://h.example/a/b", machine="elm")
        archive.add_observation("path", root_path="/srv/path")
        archive.update_session("ran", cwd="/home/ana/ran")
        for number in (1, 2):
            place = {"project": "ran-twice", "cwd": f"/srv/{number}"}
            archive.add_session(f"ran-{number}", **place)
        archive.add_observation("two", git_remote="h.example:a/b")
        archive.add_observation("two", git_remote="https://h.example/x-access-token:s3cr3t/b")
        archive.add_observation("secret", git_remote="https://h.example/x-access-token:s3cr3t/b")
        archive.add_observation("nothing", root_path="relative")
    return world


def test_labels_resolve_as_in_an_export(projects: Pipeline) -> None:
    exported = projects.export("--all")["projects"]
    told = answers(tell("show", "-", "--json", stdin=lines(*exported), url=projects.url))
    assert [answer["label"] for answer in told] == list(exported)
    for answer in told:
        entry = exported[answer["label"]]
        assert answer["resolution"] == entry["resolution"]
        for name, value in (entry["identity"] or {"key": None}).items():
            assert answer[name] == value
    seen = {answer["label"]: (answer["observations"], answer["evidence"]) for answer in told}
    assert seen == {
        "nothing": (1, None),
        "path": (1, "observations"),
        "ran": (0, "sessions"),
        "ran-twice": (0, "sessions"),
        "remote": (2, "observations"),
        "secret": (1, "observations"),
        "two": (2, "observations"),
    }


def test_an_ambiguous_label_lists_its_candidates_without_secrets(projects: Pipeline) -> None:
    result = tell("show", "two", "ran-twice", "secret", "--json", url=projects.url)
    two, ran, secret = answers(result)
    assert "s3cr3t" not in result.stdout
    assert (two["resolution"], two["key"]) == ("ambiguous", None)
    clean = remote_identity("h.example:a/b")
    dirty = remote_identity("https://h.example/x-access-token:s3cr3t/b")
    assert [each["key"] for each in two["candidates"]] == keys(clean, dirty)
    texts = {each["normalized_remote"]: each["withheld"] for each in two["candidates"]}
    assert texts == {"h.example/a/b": False, None: True}
    places = {each["root_path"]: each["count"] for each in ran["candidates"]}
    assert places == {"/srv/1": 1, "/srv/2": 1}
    assert [each["key"] for each in ran["candidates"]] == keys(
        path_identity("/srv/1"), path_identity("/srv/2")
    )
    assert (secret["resolution"], secret["candidates"]) == ("resolved", [])
    assert (secret["withheld"], secret["normalized_remote"]) == (True, None)


def test_in_words(projects: Pipeline) -> None:
    result = tell("show", "path", "secret", "two", "no such label", url=projects.url)
    assert (result.exit, result.stderr) == (0, "")
    assert "s3cr3t" not in result.stdout
    path, secret, two, unknown = result.stdout.split("\n\n")
    assert "path on its machine  /srv/path\n" in path
    assert "git remote    (withheld: may hold a credential)\n" in secret
    assert two.count("\ncandidate ") == 2
    assert "git remote h.example/a/b  (observations: 1)" in two
    assert unknown == (
        "label         no such label\nresolution    unknown\nobservations  0\nevidence      -\n"
    )


def test_many_labels_are_answered_one_line_each(projects: Pipeline) -> None:
    """More than one question to the database, with repeated, empty and hostile labels among."""
    labels = [f"label-{number}" for number in range(450)]
    labels[3] = labels[301] = labels[302] = "path"
    text = lines(*labels, "") + b"nul\0byte\n\xff\n"
    told = answers(tell("show", "-", "--json", stdin=text, url=projects.url))
    assert [answer["label"] for answer in told] == [*labels, "", "nul\0byte", "\ufffd"]
    resolved = [index for index, each in enumerate(told) if each["resolution"] == "resolved"]
    assert resolved == [3, 301, 302]


def test_a_database_that_does_not_answer_is_a_failure() -> None:
    result = tell("show", "loom")
    assert (result.exit, result.stdout) == (1, "")
    assert "does not answer" in result.stderr and "hunter2" not in result.stderr
