"""Value-by-value comparison of two session export documents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: Costs are sums of doubles in the origin and exact in ours.
COST_TOLERANCE = 1e-9

#: Parts of a path whose values are costs.
COSTS = ("cost_usd",)


def compare(ours: dict[str, Any], theirs: dict[str, Any], ignore: Sequence[str] = ()) -> list[str]:
    """Every difference between two documents, each with its path; empty when they agree.

    The two archives have ids of their own and sign cursors with keys of their own, so the
    database id is not looked at and of a cursor only whether there is a next page. Sessions are
    matched by position, since their order is part of the contract. ``ignore`` names further
    fields to pass over, wherever they stand.
    """
    return list(_differences("$", ours, theirs, {"database_id", *ignore}))


def compare_lines(ours: str, theirs: str, ignore: Sequence[str] = ()) -> list[str]:
    """``compare`` for two NDJSON streams: the opening line, then row by row."""
    return compare(document(ours), document(theirs), ignore)


def document(text: str) -> dict[str, Any]:
    """A parsed export; NDJSON becomes the same shape as JSON, with its ``type`` kept."""
    lines = [line for line in text.split("\n") if line]
    first = json.loads(lines[0])
    if "sessions" in first:
        return dict(first)
    return {**first, "sessions": [json.loads(line) for line in lines[1:]]}


def _differences(path: str, ours: Any, theirs: Any, ignore: set[str]) -> Iterator[str]:
    if path == "$.cursor.next":
        if bool(ours) != bool(theirs):
            yield f"{path}: ours is {_size(ours)}, theirs is {_size(theirs)}"
    elif isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        yield from _in_objects(path, ours, theirs, ignore)
    elif isinstance(ours, list) and isinstance(theirs, list):
        yield from _in_arrays(path, ours, theirs, ignore)
    elif not _equal(path, ours, theirs):
        yield f"{path}: ours {json.dumps(ours)}, theirs {json.dumps(theirs)}"


def _in_objects(
    path: str, ours: Mapping[str, Any], theirs: Mapping[str, Any], ignore: set[str]
) -> Iterator[str]:
    for key in sorted((ours.keys() | theirs.keys()) - ignore):
        place = f"{path}.{key}"
        if key not in theirs:
            yield f"{place}: only ours has it"
        elif key not in ours:
            yield f"{place}: only theirs has it"
        else:
            yield from _differences(place, ours[key], theirs[key], ignore)
    shared = [key for key in ours if key in theirs]
    if shared != [key for key in theirs if key in ours]:
        yield f"{path}: the keys are in another order"


def _in_arrays(path: str, ours: list[Any], theirs: list[Any], ignore: set[str]) -> Iterator[str]:
    our_ids, their_ids = _ids(ours), _ids(theirs)
    if our_ids != their_ids:
        yield from _membership(path, our_ids, their_ids)
        return
    for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        name = our_ids[index] if isinstance(one, Mapping) else index
        yield from _differences(f"{path}[{name}]", one, other, ignore)


def _ids(values: list[Any]) -> list[Any]:
    return [value.get("id") if isinstance(value, Mapping) else value for value in values]


def _membership(path: str, ours: list[Any], theirs: list[Any]) -> Iterator[str]:
    for value in ours:
        if value not in theirs:
            yield f"{path}: only ours has {value!r}"
    for value in theirs:
        if value not in ours:
            yield f"{path}: only theirs has {value!r}"
    for index, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other and one in theirs and other in ours:
            yield f"{path}[{index}]: ours has {one!r} here, theirs {other!r}"
            return


def _equal(path: str, ours: Any, theirs: Any) -> bool:
    number = isinstance(ours, int | float) and isinstance(theirs, int | float)
    if not number or isinstance(ours, bool) or isinstance(theirs, bool):
        return bool(ours == theirs and type(ours) is type(theirs))
    if path.rpartition(".")[2] in COSTS:
        return bool(abs(ours - theirs) <= COST_TOLERANCE)
    return bool(ours == theirs)


def _size(text: str) -> str:
    return "empty" if not text else "not empty"
