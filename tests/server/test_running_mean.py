from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from common.errors import WireError
from server.rounds.aggregation import RunningMean, shares


def mean_of(found: list[dict[str, Tensor]], weights: list[float], order: tuple[int, ...]) -> dict[str, Tensor]:
    mean = RunningMean()
    for at in order:
        mean.add(found[at], weights[at])
    return mean.result(found[0])


def test_shares_are_the_sites_studies_over_all() -> None:
    assert shares({"north": 30, "south": 10}) == {"north": 0.75, "south": 0.25}
    with pytest.raises(WireError, match="no site has studies"):
        shares({"north": 0})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sites", [2, 3, 4, 5])
def test_the_order_of_replies_changes_not_one_bit(dtype: torch.dtype, sites: int) -> None:
    draw = torch.Generator().manual_seed(0)
    found = [{"w": torch.randn(500, generator=draw, dtype=dtype)} for _ in range(sites)]
    weights = [0.1, 0.2, 0.3, 0.05, 0.3][:sites]
    results = [mean_of(found, weights, order)["w"] for order in itertools.permutations(range(sites))]
    assert all(torch.equal(result, results[0]) for result in results)
    assert results[0].dtype == dtype
    wanted = sum(w * s["w"].double() for w, s in zip(weights, found, strict=True)) / sum(weights)
    torch.testing.assert_close(results[0].double(), wanted, atol=1e-7, rtol=1e-6)


def test_counters_stay_what_all_sites_have() -> None:
    found = [{"steps": torch.tensor(7)} for _ in range(3)]
    for weights in ([0.1, 0.2, 0.7], [1 / 3, 1 / 3, 1 / 3], [1 / 7, 2 / 7, 4 / 7], [0.15, 0.15, 0.1]):
        assert int(mean_of(found, weights, (0, 1, 2))["steps"]) == 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_was_added_stays_as_it_was(dtype: torch.dtype) -> None:
    state = {"w": torch.ones(2, dtype=dtype)}
    mean_of([state], [0.5], (0,))
    assert state["w"].tolist() == [1.0, 1.0]


def test_a_large_weight_is_refused_however_small_the_share() -> None:
    # Sums of many such sites would not fit into the fixed point.
    with pytest.raises(WireError, match=r"^w holds weights"):
        RunningMean().add({"w": torch.tensor([2.0**21])}, 1e-6)


def test_nothing_to_average_is_an_error() -> None:
    with pytest.raises(WireError, match="no weights"):
        RunningMean().result({})


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"a": torch.ones(2), "b": torch.tensor([float("nan"), 0.0])}, "b holds"),
        ({"a": torch.ones(2), "b": torch.ones(3)}, r"b is \[3\], \[2\] before"),
        ({"a": torch.ones(2)}, "another model"),
        ({"a": torch.ones(2), "b": torch.ones(2), "c": torch.ones(2)}, "another model"),
    ],
)
def test_a_bad_reply_leaves_no_part_of_itself_in_the_sum(bad: dict[str, Tensor], reason: str) -> None:
    good = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}
    mean = RunningMean()
    mean.add(good, 0.5)
    with pytest.raises(WireError, match=reason):
        mean.add(bad, 0.5)
    mean.add(good, 0.25)
    assert all(torch.equal(value, good[name]) for name, value in mean.result(good).items())


def test_the_least_integer_is_refused() -> None:
    with pytest.raises(WireError, match="steps holds"):
        RunningMean().add({"steps": torch.tensor(-(2**63))}, 0.5)
