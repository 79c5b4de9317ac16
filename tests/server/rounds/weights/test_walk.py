"""One walk decodes, checks and adds a reply; what it adds are the bits of decoding everything first."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from common.errors import UnavailableError, WireError
from common.learning.config import Precision
from common.learning.model.checkpoint import state_digest
from common.protocol.array_bytes import to_array, to_record
from common.protocol.deltas import Decoded, encode
from common.protocol.messages import TRAIN
from server.rounds import aggregation
from server.rounds.aggregation import RunningMean
from server.rounds.checks.update_gate import UpdateGate
from server.rounds.weights import layout, spooled_tensors
from server.rounds.weights.walk import Step, Walk, measure
from server.settings import GateConfig

State = dict[str, Tensor]


@pytest.fixture(params=["one slab", "many slabs", "many slabs on disk"])
def slabs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "one slab":
        monkeypatch.setattr(layout, "SLAB", 5)
        monkeypatch.setattr(layout.slabs, "__defaults__", (5,))
        monkeypatch.setattr(aggregation, "SLAB", 5)
    if request.param == "many slabs on disk":
        monkeypatch.setattr(spooled_tensors, "MEMORY", 1)


def sent() -> State:
    draw = torch.Generator().manual_seed(0)
    return {
        "a": torch.randn(3, 4, generator=draw),
        "steps": torch.tensor([7, 8]),
        "none": torch.zeros(0, 3),
        "b": torch.tensor([0.0, -0.0, 1.0]),
        "scalar": torch.tensor(2.0),
        "double": torch.randn(3, generator=draw, dtype=torch.float64),
        "untouched": torch.tensor([-0.0, 5.0]),
    }


def moved(seed: int, by: float = 0.01) -> State:
    draw = torch.Generator().manual_seed(seed)
    return {
        name: tensor + by * torch.randn(tensor.shape, generator=draw).to(tensor.dtype)
        if tensor.is_floating_point() and name != "untouched"
        else tensor
        for name, tensor in sent().items()
    }


def reply(seed: int, precision: Precision) -> Decoded:
    return Decoded(to_record(encode(moved(seed), sent(), precision)[0].items()), sent())


def nothing(_: Step) -> None:
    """Every step is allowed."""


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.usefixtures("slabs")
def test_the_mean_has_the_bits_of_one_over_decoded_states_in_any_order(precision: Precision) -> None:
    shares = [0.2, 0.3, 0.5]
    plain = RunningMean()
    for seed, share in enumerate(shares):
        plain.add(dict(reply(seed, precision)), share)

    for order in ((0, 1, 2), (2, 0, 1)):
        mean = RunningMean()
        for seed in order:
            step = mean.take(reply(seed, precision), sent(), nothing, share=shares[seed])
            wanted = measure(dict(reply(seed, precision)), sent())
            assert step.norm == pytest.approx(wanted.norm, rel=1e-9)
            assert step.weights == pytest.approx(wanted.weights, rel=1e-9)
        assert state_digest(mean.result(sent())) == state_digest(plain.result(sent()))


@pytest.mark.usefixtures("slabs")
def test_a_tensor_that_is_not_sent_keeps_the_sign_of_its_zeros_beside_one_that_is() -> None:
    before = {"a": torch.tensor([-0.0, 1.0]), "b": torch.zeros(3)}
    after = Decoded(to_record([("b", torch.ones(3).half())]), before)
    seen = torch.cat([values.clone() for _, values in Walk(after, before)])
    assert seen.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0]
    assert torch.signbit(seen[0])


@pytest.mark.usefixtures("slabs")
def test_both_kinds_of_half_precision_may_come_in_one_reply() -> None:
    before = {"a": torch.ones(3), "b": torch.ones(3), "c": torch.ones(2)}
    arrays = [("a", torch.full((3,), 0.5).half()), ("b", torch.full((3,), 0.25).bfloat16()), ("c", torch.zeros(2))]
    seen = torch.cat([values.clone() for _, values in Walk(Decoded(to_record(arrays), before), before)])
    assert seen.tolist() == [1.5, 1.5, 1.5, 1.25, 1.25, 1.25, 0.0, 0.0]


def bad_replies() -> Iterator[tuple[str, Decoded, str]]:
    for name, value in {"nan": float("nan"), "infinite": float("-inf")}.items():
        state = {**moved(1), "untouched": torch.tensor([1.0, value])}
        yield name, Decoded(to_record(state.items()), sent()), "untouched holds NaN or infinity"

    arrays = {name: to_array(tensor) for name, tensor in moved(1).items()}
    huge = {**arrays, "double": to_array(torch.tensor([0.0, 0.0, 1e9], dtype=torch.float64))}
    yield "huge", Decoded(ArrayRecord(huge), sent()), "double holds weights beyond"
    yield (
        "shape",
        Decoded(ArrayRecord({**arrays, "untouched": to_array(torch.ones(3))}), sent()),
        r"untouched is .* \[3\]",
    )
    yield (
        "dtype",
        Decoded(ArrayRecord({**arrays, "untouched": to_array(torch.ones(2).double())}), sent()),
        "untouched is",
    )
    yield "none", Decoded(ArrayRecord({**arrays, "none": to_array(torch.ones(0, 4))}), sent()), "none is"
    yield "cut", Decoded(ArrayRecord({**arrays, "untouched": cut(torch.ones(2))}), sent()), "cannot be read"
    yield "far", Decoded(to_record(moved(1, by=9.0).items()), sent()), "of their norm, allowed is"
    yield "difference", Decoded(ArrayRecord({**arrays, "untouched": to_array(torch.ones(3).half())}), sent()), "not fit"


def cut(tensor: Tensor) -> Array:
    whole = to_array(tensor)
    return Array(whole.dtype, whole.shape, whole.stype, whole.data[:-1])


BAD = {name: (bad, reason) for name, bad, reason in bad_replies()}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.usefixtures("slabs")
def test_a_refused_reply_is_taken_out_again_to_the_last_bit(name: str) -> None:
    bad, reason = BAD[name]
    refused: list[str] = []
    gate = UpdateGate(GateConfig(), lambda *told: refused.append(told[2]), lambda _: None)
    clean = RunningMean()
    mean = RunningMean()
    clean.take(reply(0, "fp16"), sent(), nothing, share=0.6)
    mean.take(reply(0, "fp16"), sent(), nothing, share=0.6)

    try:
        accepted = gate(
            "south", TRAIN, sent(), bad, lambda after, before, judge: mean.take(after, before, judge, share=0.3)
        )
        assert not accepted
    except WireError as error:
        refused.append(str(error))

    (told,) = refused
    assert re.search(reason, told)
    for one in (clean, mean):
        one.take(reply(2, "fp16"), sent(), nothing, share=0.4)
    assert state_digest(mean.result(sent())) == state_digest(clean.result(sent()))


def test_the_first_reply_may_be_the_one_that_is_refused() -> None:
    mean = RunningMean()
    bad, _ = BAD["nan"]
    with pytest.raises(Exception, match="NaN"):
        mean.take(bad, sent(), nothing, share=0.5)
    with pytest.raises(WireError, match="no weights"):
        mean.result(sent())
    mean.take(reply(0, "fp32"), sent(), nothing, share=0.5)
    clean = RunningMean()
    clean.take(reply(0, "fp32"), sent(), nothing, share=0.5)
    assert state_digest(mean.result(sent())) == state_digest(clean.result(sent()))


def test_a_sum_that_could_not_be_restored_gives_no_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    mean = RunningMean()
    mean.take(reply(0, "fp16"), sent(), nothing, share=0.5)

    def full(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(spooled_tensors.FlatStore, "write", full)
        with pytest.raises(MemoryError):
            mean.take(reply(1, "fp16"), sent(), nothing, share=0.5)

    with pytest.raises(UnavailableError, match="lost"):
        mean.result(sent())
    with pytest.raises(UnavailableError, match="lost"):
        mean.take(reply(2, "fp16"), sent(), nothing, share=0.5)
