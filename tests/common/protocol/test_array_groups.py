"""Small arrays travel together, large ones by themselves, and all come out as they went in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from hypothesis import given
from hypothesis import strategies as st

from common.errors import WireError
from common.protocol.array_bytes import to_array
from common.protocol.array_groups import LARGE, MOST, Member, group, ungroup

KINDS = st.sampled_from(["float32", "int64", "uint8", "bool"])
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


def contents(record: Mapping[str, Array | Member]) -> dict[str, tuple[str, tuple[int, ...], str, bytes]]:
    return {name: (a.dtype, tuple(a.shape), a.stype, bytes(a.data)) for name, a in record.items()}


@given(st.dictionaries(st.text(max_size=20), st.tuples(KINDS, SHAPES), max_size=12))
def test_what_was_grouped_comes_out_as_it_was_and_in_its_order(kinds: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    record = ArrayRecord({name: Array(np.ones(shape, kind)) for name, (kind, shape) in kinds.items()})
    found = ungroup(group(record))
    assert contents(found) == contents(record)
    assert list(found) == list(record)


def test_a_hundred_small_arrays_are_one_and_a_large_one_stays_by_itself() -> None:
    small = {f"layer.{i}": Array(np.full(100, i, np.float32)) for i in range(100)}
    large = Array(np.zeros(LARGE, np.uint8))
    grouped = group(ArrayRecord({**small, "large": large}))
    assert len(grouped) == 2
    assert grouped["large"].data == large.data


def test_no_group_is_larger_than_what_flower_sends_in_one_piece() -> None:
    half = {str(i): Array(np.zeros(LARGE // 2, np.uint8)) for i in range(20)}
    grouped = group(ArrayRecord(half))
    assert 2 < len(grouped) < 5
    assert all(len(array.data) < MOST + 4096 for array in grouped.values())
    assert contents(ungroup(grouped)) == contents(ArrayRecord(half))


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_halves_in_planes_keep_their_form(precision: str) -> None:
    import torch

    record = ArrayRecord({"w": to_array(torch.arange(6.0).to(getattr(torch, precision)))})
    assert contents(ungroup(group(record))) == contents(record)


def damaged(data: bytes) -> ArrayRecord:
    return ArrayRecord({"g": Array("uint8", (len(data),), "fedforget.group", data)})


GOOD = group(ArrayRecord({"a": Array(np.zeros(4, np.uint8)), "b": Array(np.ones(2, np.float32))}))[
    "fedforget.group.0"
].data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD[:-1],
        GOOD + b"x",
        GOOD[:8] + b"x" + GOOD[9:],
        (2**63).to_bytes(8, "big") + GOOD[8:],
        GOOD.replace(b'"shape":[4]', b'"shape":[-]'),
        GOOD.replace(b'"bytes":', b'"bytes":-'),
    ],
    ids=["empty", "cut", "longer", "no-json", "length", "shape", "negative"],
)
def test_a_damaged_group_is_an_error_of_the_wire(data: bytes) -> None:
    with pytest.raises(WireError, match="cannot be read"):
        ungroup(damaged(data))


def test_two_arrays_of_one_name_are_refused() -> None:
    record = damaged(GOOD)
    record["a"] = Array(np.zeros(1, np.uint8))
    with pytest.raises(WireError, match="two arrays"):
        ungroup(record)
