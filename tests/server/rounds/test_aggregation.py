from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from common.errors import WireError
from server.rounds.aggregation import RunningMean, shares, without_return
from server.rounds.weights.conflicts import DeltaSpool, project_conflicts


def test_the_mean_is_weighted_and_the_same_bits_in_any_order() -> None:
    generator = torch.Generator().manual_seed(0)
    states = [{"w": torch.randn(1000, generator=generator)} for _ in range(4)]
    weights = [0.1, 0.2, 0.3, 0.4]
    results = []

    for order in itertools.permutations(range(4)):
        mean = RunningMean()
        for at in order:
            mean.add(states[at], weights[at])
        results.append(mean.result(states[0])["w"])

    expected = sum(w * s["w"].double() for w, s in zip(weights, states, strict=True))
    assert torch.allclose(results[0].double(), expected, atol=1e-6)  # type: ignore[arg-type]
    assert all(torch.equal(results[0], other) for other in results)


def test_sites_that_did_not_answer_are_left_out_of_the_mean() -> None:
    mean = RunningMean()
    mean.add({"w": torch.tensor([2.0])}, 0.25)
    mean.add({"w": torch.tensor([4.0])}, 0.25)
    assert mean.result({"w": torch.zeros(1)})["w"].item() == pytest.approx(3.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_weights_that_are_not_finite_or_huge_are_refused(bad: float) -> None:
    with pytest.raises(WireError, match="w holds"):
        RunningMean().add({"w": torch.tensor([1.0, bad])}, 0.5)


def test_plain_averaging_keeps_exactly_the_share_p_of_an_unlearning_step_of_a_linear_model() -> None:
    registered = shares({"site-1": 20, "site-2": 30, "site-3": 50})
    parent = torch.tensor([1.0, -2.0, 0.5])
    step = torch.tensor([-4.0, 8.0, 2.0])
    x = torch.tensor([0.3, 0.1, -0.7])
    mean = RunningMean()
    for site, share in registered.items():
        mean.add({"w": parent + step if site == "site-1" else parent}, share)
    moved = mean.result({"w": parent})["w"] @ x - parent @ x
    assert (moved / (step @ x)).item() == pytest.approx(0.2, abs=1e-6)


def test_deltas_that_agree_are_added_in_full_and_the_spool_is_emptied(tmp_path: Path) -> None:
    before = {"w": torch.tensor([1.0, 1.0]), "n": torch.tensor([3])}
    spool = DeltaSpool(tmp_path)
    spool.add("b", before, {"w": torch.tensor([1.0, 3.0]), "n": torch.tensor([3])})
    spool.add("a", before, {"w": torch.tensor([2.0, 1.0]), "n": torch.tensor([3])})
    after = spool.apply(before)
    assert after["w"].tolist() == [2.0, 3.0]
    assert after["n"].tolist() == [3]
    assert before["w"].tolist() == [1.0, 1.0]
    assert not list(tmp_path.iterdir())


def sum_of(deltas: list[torch.Tensor]) -> torch.Tensor:
    """Without conflicts."""
    rows = torch.stack(deltas).double().numpy()
    return torch.from_numpy(project_conflicts(rows @ rows.T) @ rows)


def test_conflicting_deltas_lose_their_part_along_each_other() -> None:
    left = torch.tensor([1.0, 0.0])
    right = torch.tensor([-1.0, 1.0])
    # left . right = -1: left becomes (1, 0) + (-1, 1)/2 = (.5, .5), right becomes (-1, 1) + (1, 0) = (0, 1).
    assert sum_of([left, right]).tolist() == pytest.approx([0.5, 1.5])


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        # A step of (-2, 3) after one of (4, 0): what went back is left out, what went aside stays.
        ((2.0, 3.0), (4.0, 3.0)),
        ((5.0, 3.0), (5.0, 3.0)),
    ],
)
def test_a_step_back_along_an_earlier_one_is_left_out(
    after: tuple[float, float], expected: tuple[float, float]
) -> None:
    found = without_return(torch.tensor(after), torch.tensor([4.0, 0.0]), torch.tensor([4.0, 0.0]))
    assert found.tolist() == list(expected)


def test_what_did_not_move_before_may_move_as_it_likes_and_counts_are_not_projected() -> None:
    after = torch.tensor([1.0, -2.0])
    assert torch.equal(without_return(after, torch.zeros(2), torch.zeros(2)), after)
    count = torch.tensor(3)
    assert without_return(count, torch.tensor(5), torch.tensor(4)) is count
