"""No hospital is most of a round because others did not answer in time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from server.rounds.aggregation import shares
from server.rounds.capped_mean import CappedMean, fewest

SITES = ("a", "b", "c", "d")


def state(value: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((3,), value), "count": torch.tensor(int(value))}


def mean_of(registered: Mapping[str, float], values: Mapping[str, float], most: float, needed: float) -> float:
    mean = CappedMean(registered, most, needed)
    for site, value in values.items():
        mean.of(site).add(state(value), registered[site])
    found = dict(mean.means(state(0.0), values))
    assert found["weight"].dtype == torch.float32
    assert found["count"].dtype == torch.int64
    return float(found["weight"][0])


def test_a_hospital_with_the_largest_share_is_not_most_of_a_round_that_others_missed() -> None:
    registered = {"a": 0.6, "b": 0.2, "c": 0.2}
    assert mean_of(registered, {"a": 1.0, "b": 0.0, "c": 0.0}, 0.6, 0.4) == pytest.approx(0.6)
    # Without the cap it would be .75.
    assert mean_of(registered, {"a": 1.0, "b": 0.0}, 0.6, 0.4) == pytest.approx(0.6)


def test_small_bounds_hold_for_each_of_several_large_hospitals() -> None:
    registered = {"a": 0.4, "b": 0.35, "c": 0.15, "d": 0.1}
    assert mean_of(registered, {"a": 1.0, "c": 0.0, "d": 0.0}, 0.4, 0.5) == pytest.approx(0.4)
    assert mean_of(registered, {"b": 1.0, "c": 0.0, "d": 0.0}, 0.4, 0.5) == pytest.approx(0.4)
    # Of two, one half each is the least that the larger can have.
    assert mean_of(registered, {"a": 1.0, "d": 0.0}, 0.4, 0.5) == pytest.approx(0.5)


@given(
    counts=st.lists(st.integers(1, 1000), min_size=2, max_size=4),
    most=st.floats(0.3, 1.0),
    away=st.sets(st.sampled_from(SITES), max_size=2),
    liar=st.sampled_from(SITES),
)
def test_whoever_answers_no_share_exceeds_the_bound(counts: list[int], most: float, away: set[str], liar: str) -> None:
    registered = shares(dict(zip(SITES, counts, strict=False)), most)
    taken = sorted(registered.keys() - away)
    needed = min(0.5, 1 - max(registered.values()))
    if len(taken) < 2 or liar not in taken or sum(registered[name] for name in taken) < needed:
        return
    found = mean_of(registered, {name: float(name == liar) for name in taken}, most, needed)
    assert found <= max(most, 1 / len(taken)) + 1e-6
    assert found == pytest.approx(shares({name: registered[name] for name in taken}, most)[liar], abs=1e-6)


def test_a_reply_that_was_not_taken_is_in_no_mean() -> None:
    mean = CappedMean({"a": 0.6, "b": 0.2, "c": 0.2}, 0.6, 0.4)
    mean.of("a").add(state(1.0), 0.6)
    mean.of("b")  # refused before it was added
    assert float(dict(mean.means(state(0.0), ["a"]))["weight"][0]) == 1.0


def test_means_of_several_sums_are_combined_in_double_precision_and_rounded_once() -> None:
    # North is a sum of its own; the others' mean of 1/3 and the counter's of 3/2 must not be rounded before they count.
    registered = {"north": 0.6, "south": 0.2, "west": 0.2}
    values = {"north": (0.0, 0), "south": (2 / 3, 3), "west": (0.0, 0)}
    mean = CappedMean(registered, 0.6, 0.4)
    for site, (weight, count) in values.items():
        mean.of(site).add({"weight": torch.full((3,), weight), "count": torch.tensor(count)}, registered[site])
    assert mean.of("north") is not mean.of("south")
    both = mean.of("south")
    precise = {"weight": torch.empty(0, dtype=torch.float64), "count": torch.empty(0, dtype=torch.float64)}
    parts = dict(both.means(precise))
    assert [part.dtype for part in parts.values()] == [torch.float64, torch.float64]
    assert float(parts["count"]) == pytest.approx(1.5, rel=1e-11)
    assert float(parts["weight"][0]) == pytest.approx(float(torch.tensor(2 / 3).double()) / 2, rel=1e-11)
    assert int(dict(mean.means(state(0.0), registered))["count"]) == round(0.4 * 1.5)


def test_of_equal_hospitals_there_is_one_sum() -> None:
    mean = CappedMean(dict.fromkeys("abc", 1 / 3), 0.6, 0.5)
    assert mean.of("a") is mean.of("b")


def test_one_of_three_or_more_is_no_round_and_one_of_two_is() -> None:
    assert [fewest(SITES[:count]) for count in (1, 2, 3, 4)] == [1, 1, 2, 2]
