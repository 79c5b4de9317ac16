from __future__ import annotations

import math

import pytest
import torch
from flwr.app import Array
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from common.errors import WireError
from common.learning.config import Precision
from common.learning.model.checkpoint import state_digest
from common.protocol.array_bytes import from_array, to_array, to_record
from common.protocol.deltas import Decoded, encode, rounded, same, whole

SHORT: list[Precision] = ["fp16", "bf16"]
UNIT = {"fp16": 2.0**-11, "bf16": 2.0**-8}
LEAST = {"fp16": 2.0**-24, "bf16": 0.0}

floats = st.floats(-1e4, 1e4, width=32).filter(lambda value: value == 0 or abs(value) > 1e-30)
rows = st.lists(st.tuples(floats, floats), min_size=1, max_size=40)


def model(scale: float = 1.0, seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "w": scale * torch.randn(30, 20, generator=draw),
        "b": scale * torch.randn(7, generator=draw),
        "steps": torch.tensor(3),
    }


def moved(base: dict[str, Tensor], size: float, seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        n: t + size * torch.randn(t.shape, generator=draw) if t.is_floating_point() else t + 1 for n, t in base.items()
    }


def carried_over(arrays: dict[str, Tensor], base: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(Decoded(to_record(arrays.items()), base))


@given(rows)
@settings(deadline=None)
def test_fp32_carries_every_bit(values: list[tuple[float, float]]) -> None:
    base, after = ({"w": torch.tensor([row[at] for row in values])} for at in (0, 1))
    arrays, errors = encode(after, base, "fp32")
    assert errors == {}
    assert state_digest(carried_over(arrays, base)) == state_digest(after)


@pytest.mark.parametrize("precision", SHORT)
@given(values=rows)
@settings(deadline=None)
def test_the_error_is_at_most_half_a_unit_and_is_carried_on_in_full(
    precision: Precision, values: list[tuple[float, float]]
) -> None:
    base, after = ({"w": torch.tensor([row[at] for row in values])} for at in (0, 1))
    arrays, errors = encode(after, base, precision)
    wanted = after["w"] - base["w"]
    sent = arrays.get("w", torch.zeros_like(wanted)).float()
    error = errors.get("w", torch.zeros_like(wanted))
    assert torch.equal(sent + error, wanted)
    assert bool((error.abs() <= wanted.abs() * UNIT[precision] + LEAST[precision] + 1e-38).all())


@pytest.mark.parametrize("precision", SHORT)
def test_fed_back_errors_do_not_build_up_over_rounds(precision: Precision) -> None:
    truth = model()
    exact = truth
    fed = truth
    bare = truth
    carried: dict[str, Tensor] = {}

    for number in range(60):
        step = moved({n: torch.zeros_like(t) for n, t in truth.items()}, 1e-3, number)
        step["w"] = step["w"] + 1e-3
        exact = {n: t.double() + step[n] if t.is_floating_point() else t for n, t in exact.items()}
        arrays, carried = encode({n: t + step[n] for n, t in fed.items()}, fed, precision, carried)
        fed = carried_over(arrays, fed)
        arrays, _ = encode({n: t + step[n] for n, t in bare.items()}, bare, precision)
        bare = carried_over(arrays, bare)

    assert float((fed["w"] - exact["w"]).abs().mean()) < 0.5 * float((bare["w"] - exact["w"]).abs().mean())


def test_what_did_not_change_does_not_travel() -> None:
    base = model()
    after = {**base, "b": base["b"] + 1e-3}
    for precision in ("fp32", *SHORT):
        assert set(encode(after, base, precision)[0]) == {"b"}
        assert encode(base, base, precision) == ({}, {})


def test_whole_numbers_travel_whole() -> None:
    base = model()
    arrays, _ = encode({**base, "steps": torch.tensor(2**40 + 1)}, base, "fp16")
    assert int(carried_over(arrays, base)["steps"]) == 2**40 + 1


@pytest.mark.parametrize("beyond", [1e6, float("nan"), float("inf")])
def test_what_half_precision_cannot_hold_is_sent_whole(beyond: float) -> None:
    base = model()
    after = {**base, "b": base["b"].clone()}
    after["b"][0] = beyond
    arrays, errors = encode(after, base, "fp16")
    assert arrays["b"].dtype == torch.float32
    assert "b" not in errors
    assert same(carried_over(arrays, base)["b"], after["b"])


@pytest.mark.parametrize("precision", ["fp32", *SHORT])
def test_a_rounded_start_is_sent_whole_in_the_short_form_and_exactly(precision: Precision) -> None:
    start = rounded({**model(), "zero": torch.tensor([-0.0, 0.0])}, precision)
    arrays = dict(whole(start, precision))
    zeros = {n: torch.zeros_like(t) for n, t in start.items()}
    assert state_digest(carried_over(arrays, zeros)) == state_digest(start)
    if precision != "fp32":
        assert arrays["w"].element_size() == 2
        assert float((start["w"] - model()["w"]).abs().max()) < 4 * UNIT[precision]


def test_weights_that_are_no_short_floats_are_sent_whole_as_they_are() -> None:
    state = model()
    zeros = {n: torch.zeros_like(t) for n, t in state.items()}
    assert state_digest(carried_over(dict(whole(state, "fp16")), zeros)) == state_digest(state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@given(shape=st.lists(st.integers(0, 5), max_size=3), seed=st.integers(0, 99))
@settings(deadline=None)
def test_half_precision_arrays_come_back_bit_for_bit(dtype: torch.dtype, shape: list[int], seed: int) -> None:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    assert same(from_array(to_array(tensor)), tensor)


def test_differences_of_a_model_take_less_than_half() -> None:
    tensor = 1e-3 * torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    for dtype, share in ((torch.float16, 0.43), (torch.bfloat16, 0.36)):
        assert len(to_array(tensor.to(dtype)).data) < share * 4 * tensor.numel()


def test_a_difference_of_another_shape_or_to_whole_numbers_is_refused() -> None:
    base = model()
    for name, wrong in (("w", torch.ones(3)), ("steps", torch.tensor(1.0))):
        with pytest.raises(WireError, match="does not fit"):
            dict(Decoded(to_record([(name, wrong.half())]), base))


def test_damaged_planes_are_refused_and_a_claim_of_gigabytes_costs_none() -> None:
    good = to_array(torch.randn(100).half())
    end = len(good.data) - 100
    damaged = [
        Array("float16", (10**10,), good.stype, good.data),
        Array("float16", (99,), good.stype, good.data),
        Array("float16", (-1, -100), good.stype, good.data),
        Array("float64", (100,), good.stype, good.data),
        Array("float16", (100,), good.stype, good.data[:8] + bytes(end - 8) + good.data[end:]),
        Array("float16", (100,), good.stype, b""),
        Array("float16", (100,), "another", good.data),
    ]
    for array in damaged:
        with pytest.raises(WireError, match="cannot be read"):
            from_array(array)


def test_the_error_of_half_a_unit_is_what_the_format_says() -> None:
    value = 1.0 + 2.0**-11
    arrays, errors = encode({"w": torch.tensor([value])}, {"w": torch.tensor([0.0])}, "fp16")
    assert float(arrays["w"]) == 1.0
    assert math.isclose(float(errors["w"]), 2.0**-11)
