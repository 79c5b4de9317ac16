"""Replies as a rogue hospital sends them: real ones with something odd in their body, their weights or their form."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import torch
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from common.protocol.array_bytes import to_record
from common.protocol.array_groups import group
from common.protocol.wire import weights_of

Json = Any
T = TypeVar("T")
Path = tuple[str | int, ...]


class Draw(Protocol):
    """Chooses; `random.Random` in the study of random rogues, hypothesis in the tests."""

    def choice(self, options: list[T], /) -> T: ...


MISSING = object()
ODD: list[Any] = [
    MISSING, None, True, -1, 0, 1, 2, 0.5, -0.5, 1.5, 1e-300, 1e308, 10**9, 10**12, -(10**12), 10**30, 2**63, 10**4000,
    float("nan"), float("inf"), float("-inf"), "", "x", "NaN", "1e9", "\x1b[31m\u202e\n", "x" * 5000,
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-05:00", "2026-01-01",
    [], {}, [0], [[]], [-1, 1], {"a": 1}, {"test": 10**12}, [1.0] * 50,
]  # fmt: skip


def paths(value: Json, at: Path = ()) -> Iterator[Path]:
    """Every place in a JSON value."""
    yield at

    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, (*at, index))


def put(value: Json, path: Path, new: Json) -> Json:
    """`value` with `new` at `path`; `MISSING` takes the place out."""
    if not path:
        return {} if new is MISSING else new
    first, *rest = path
    copied: Json = dict(value) if isinstance(value, dict) else list(value)

    if not rest and new is MISSING:
        del copied[first]
    else:
        copied[first] = put(value[first], tuple(rest), new)

    return copied


def at(value: Json, path: Path) -> Json:
    """What stands at `path`."""
    for step in path:
        value = value[step]
    return value


def _third(number: float) -> float:
    """A third; of a whole number that no float can hold, a whole one."""
    return number // 3 if isinstance(number, int) and abs(number) > sys.float_info.max else number / 3


def odd_json(value: Json, draw: Draw) -> Json:
    """One change: an odd value, a number scaled or negated, a list longer or shorter, two places exchanged."""
    place = draw.choice(list(paths(value)))
    here = at(value, place)
    how = draw.choice(["odd", "odd", "scaled", "listed", "named", "exchanged"])
    if how == "scaled" and isinstance(here, int | float) and not isinstance(here, bool):
        return put(value, place, draw.choice([-here, here * 10, here * 1000, _third(here), here + 1, here - 1]))
    if how == "listed" and isinstance(here, list) and here:
        return put(value, place, draw.choice([here[:-1], here + here[:1], here[::-1], here * 3]))
    if how == "named" and isinstance(here, dict) and here:
        name = draw.choice(sorted(here))
        return put(value, place, {**here, draw.choice(["extra", "\x1b]0;", "x" * 2000]): here[name]})

    if how == "exchanged":
        other = draw.choice(list(paths(value)))
        if place and place[: len(other)] != other and other[: len(place)] != place:
            return put(put(value, place, at(value, other)), other, here)

    return put(value, place, draw.choice(ODD))


def with_body(records: RecordDict, change: Callable[[Json], Json]) -> RecordDict:
    """The same message with another body."""
    body = records["body"]
    assert isinstance(body, ConfigRecord)
    text = json.dumps(change(json.loads(str(body["json"]))))

    return _with(records, body=ConfigRecord({"type": str(body["type"]), "json": text}))


def odd_body(records: RecordDict, draw: Draw) -> RecordDict:
    """One to three changes of the body."""

    def change(value: Json) -> Json:
        for _ in range(draw.choice([1, 1, 2, 3])):
            value = odd_json(value, draw)
        return value

    return with_body(records, change)


def odd_record(records: RecordDict, draw: Draw) -> RecordDict:
    """A message whose form is not that of a reply."""
    body = records["body"]
    assert isinstance(body, ConfigRecord)
    text = str(body["json"])
    kind = str(body["type"])
    forms: list[Callable[[], RecordDict]] = [
        RecordDict,
        lambda: RecordDict({name: record for name, record in records.items() if name != "body"}),
        lambda: _with(records, body=ConfigRecord({"type": kind})),
        lambda: _with(records, body=ConfigRecord({"type": kind, "json": 7})),
        lambda: _with(records, body=ConfigRecord({"type": kind, "json": [text, text]})),
        lambda: _with(records, body=ConfigRecord({"type": kind, "json": text.encode()})),
        lambda: _with(records, body=ConfigRecord({"type": kind, "json": text[: len(text) // 2]})),
        lambda: _with(records, body=ConfigRecord({"type": kind, "json": "[" * 100_000})),
        lambda: _with(records, body=ConfigRecord({"type": kind, "json": text + " " * 2**21})),
        lambda: _with(records, body=ConfigRecord({"type": "\x1b[2J" * 50, "json": text})),
        lambda: _with(records, body=ConfigRecord({"type": "ErrorReply", "json": text})),
        lambda: _with(records, body=ConfigRecord({"type": "ErrorReply", "json": '{"code": "failed"}'})),
        lambda: _with(records, body=ArrayRecord()),
        lambda: _with(records, note=ConfigRecord({"type": "HeldNote", "json": '{"held": ["../.."]}'})),
        lambda: _with(records, note=ConfigRecord({"type": "HeldNote", "json": '{"held": 3}'})),
    ]

    return draw.choice(forms)()


def odd_weights(records: RecordDict, draw: Draw) -> RecordDict:
    """Weights that are not a model, or one that nobody trained."""
    if not isinstance(records.get("arrays"), ArrayRecord):
        return odd_record(records, draw)
    state = weights_of(records)
    names = sorted(state)
    name = draw.choice(names)
    tensor = state[name]
    zero = {key: torch.zeros_like(value) for key, value in state.items()}
    forms: list[Callable[[], dict[str, torch.Tensor]]] = [
        dict,
        lambda: {key: value for key, value in state.items() if key != name},
        lambda: {**state, "extra\x1b": tensor},
        lambda: {**state, name: tensor.reshape(-1)[:1]},
        lambda: {**state, name: tensor.reshape(1, *tensor.shape)},
        lambda: {**state, name: torch.full_like(tensor, draw.choice([1e30, -1e30, 2.0**21, 1e6]))},
        lambda: {**state, name: torch.full(tensor.shape, float("nan"))},
        lambda: {**state, name: torch.full(tensor.shape, float("inf"))},
        lambda: {**state, name: tensor.to(torch.float64)},
        lambda: {**state, name: tensor.to(torch.float16)},
        lambda: {**state, name: tensor.to(torch.int64)},
        lambda: zero,
        lambda: {key: value * draw.choice([-1.0, 0.0, 3.0, 0.7, 100.0]) if value.is_floating_point() else value
                 for key, value in state.items()},
        lambda: {**state, name: -tensor},
    ]  # fmt: skip

    return _with(records, arrays=group(to_record(draw.choice(forms)().items())))


def odd_arrays(records: RecordDict, draw: Draw) -> RecordDict:
    """Arrays whose bytes are not what they are said to be."""
    arrays = records.get("arrays")
    if not isinstance(arrays, ArrayRecord) or not len(arrays):
        return odd_record(records, draw)
    name = draw.choice(sorted(arrays))
    array = arrays[name]
    changed = type(array)(dtype=array.dtype, shape=array.shape, stype=array.stype, data=array.data)
    how = draw.choice(["data", "dtype", "shape", "stype"])
    options: dict[str, list[Any]] = {
        "data": [b"", array.data[:-1], array.data[::-1], b"\x80\x04." + array.data],
        "dtype": ["object", "float16", "O", "x" * 500, ""],
        "shape": [(0,), (2**40,), (-1,), (1,) * 60, tuple(array.shape) * 2],
        "stype": ["pickle", "", "numpy.ndarray"],
    }
    setattr(changed, how, draw.choice(options[how]))

    return _with(records, arrays=ArrayRecord({**arrays, name: changed}))


def _with(records: RecordDict, **changed: Any) -> RecordDict:
    return RecordDict({**records, **changed})


FORMS: list[Callable[[RecordDict, Draw], RecordDict]] = [
    odd_body, odd_body, odd_body, odd_body, odd_record, odd_weights, odd_arrays
]  # fmt: skip


def odd_reply(records: RecordDict, draw: Draw) -> RecordDict:
    """A real reply with something odd about it."""
    return draw.choice(FORMS)(records, draw)
