"""Each thing that a reply may not be, one at a time; bounds worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from common.learning.config import UnlearnConfig
from common.protocol.messages import RETAIN, TRAIN, UNLEARN
from server.rounds.checks.update_gate import Rejected, UpdateGate, check, least_step
from server.rounds.weights.walk import measure
from server.settings import GateConfig

CONFIG = GateConfig(train_norm=10, train_weights=0.5, unlearn_norm=0.25)
KINDS = (TRAIN, RETAIN, UNLEARN)


def sent() -> dict[str, Tensor]:
    """Norm 10 over what a step can change."""
    return {"w": torch.tensor([6.0, 8.0]), "frozen": torch.full((4,), 100.0), "steps": torch.tensor(3)}


def moved(by: float) -> dict[str, Tensor]:
    return {**sent(), "w": torch.tensor([6.0, 8.0 + by])}


def with_w(value: Tensor) -> dict[str, Tensor]:
    return {**sent(), "w": value}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({k: v for k, v in sent().items() if k != "w"}, "lacks tensor w"),
        ({**sent(), "back\ndoor": torch.zeros(1)}, r"has an unknown tensor back\\ndoor"),
        ({**sent(), "x" * 500: torch.zeros(1)}, "x{100}"),
        (with_w(torch.tensor([6.0, 8.0, 0.0])), r"w is torch\.float32 \[3\], expected"),
        (with_w(torch.tensor([6.0, 8.0], dtype=torch.float64)), r"w is torch\.float64 \[2\], expected"),
        (with_w(torch.tensor([6.0, float("nan")])), "w holds NaN or infinity"),
        (with_w(torch.tensor([float("-inf"), 8.0])), "w holds NaN or infinity"),
        (with_w(torch.tensor([6.0, 1e30])), "w holds weights beyond"),
        ({**sent(), "steps": torch.tensor(-(2**63))}, "steps holds weights beyond"),
    ],
)
def test_a_reply_of_another_shape_or_without_finite_values_is_rejected(
    kind: str, reply: dict[str, Tensor], reason: str
) -> None:
    with pytest.raises(Rejected, match=reason) as caught:
        check(reply, sent(), kind, CONFIG)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_the_step_is_measured_against_the_weights_it_changes_not_against_frozen_ones() -> None:
    step = measure(moved(2.0), sent())
    assert (step.norm, step.weights, step.relative) == (2.0, 10.0, 0.2)
    assert measure(sent(), sent()).relative == 0.0
    zero = {"b": torch.zeros(2)}
    assert measure({"b": torch.ones(2)}, zero).relative == float("inf")


@pytest.mark.parametrize(("kind", "bound"), [(TRAIN, 5.0), (RETAIN, 5.0), (UNLEARN, 2.5)])
def test_the_bound_on_the_step_is_the_one_of_its_kind(kind: str, bound: float) -> None:
    assert check(moved(bound * 0.999), sent(), kind, CONFIG) == pytest.approx(bound * 0.999)
    with pytest.raises(Rejected, match=r"moved the weights it changes by .* of their norm, allowed is"):
        check(moved(bound * 1.001), sent(), kind, CONFIG)


def test_a_training_step_far_longer_than_the_others_is_rejected_though_the_weights_allow_it() -> None:
    assert check(moved(2.0), sent(), TRAIN, CONFIG, others=[0.21, 0.21]) == 2.0
    with pytest.raises(Rejected, match=r"norm 2, other sites' are about 0\.19"):
        check(moved(2.0), sent(), TRAIN, CONFIG, others=[0.19, 0.19])
    # Of one other site nobody knows which of the two is odd.
    check(moved(2.0), sent(), TRAIN, CONFIG, others=[0.19])


def test_one_site_that_sends_nothing_new_does_not_make_the_others_look_large() -> None:
    check(moved(2.0), sent(), TRAIN, CONFIG, others=[0.0, 2.0])
    check(moved(2.0), sent(), TRAIN, CONFIG, others=[0.0, 1.9, 2.1])


def test_an_unlearning_step_is_not_compared_with_others() -> None:
    check(moved(2.0), sent(), UNLEARN, CONFIG, others=[0.01, 0.01])


@pytest.fixture
def gate() -> tuple[UpdateGate, list[tuple[str, str]], list[str]]:
    bad: list[tuple[str, str]] = []
    good: list[str] = []

    def note(site: str, kind: str, reason: str, digest: str) -> None:
        assert len(digest) == 64
        bad.append((site, reason))

    return UpdateGate(CONFIG, note, good.append), bad, good


Gate = tuple[UpdateGate, list[tuple[str, str]], list[str]]


def test_the_gate_reports_every_reply_and_lets_only_good_ones_through(gate: Gate) -> None:
    accepts, bad, good = gate
    assert accepts("north", TRAIN, sent(), moved(0.1))
    assert not accepts("south", TRAIN, sent(), with_w(torch.tensor([float("nan"), 0.0])))
    assert good == ["north"]
    assert bad == [("south", "w holds NaN or infinity")]


def test_the_gate_compares_with_what_the_other_sites_sent_for_the_same_kind(gate: Gate) -> None:
    accepts, bad, _ = gate
    assert accepts("north", TRAIN, sent(), moved(0.1))
    assert accepts("east", TRAIN, sent(), moved(0.1))
    assert not accepts("south", TRAIN, sent(), moved(4.0))
    assert bad[0][0] == "south"
    assert accepts("south", RETAIN, sent(), moved(4.0))
    # A rejected step is no measure for others, and a site's own last step is none for itself.
    assert accepts("south", TRAIN, sent(), moved(0.9))
    assert not accepts("north", TRAIN, sent(), moved(9.5))


def test_an_attacker_who_answers_first_in_a_later_round_is_known_by_the_round_before(gate: Gate) -> None:
    accepts, _, _ = gate
    for site in ("north", "east", "south"):
        assert accepts(site, TRAIN, sent(), moved(0.1))
    assert not accepts("south", TRAIN, sent(), moved(4.0))


def test_the_bounds_stand_in_the_settings_and_may_be_narrowed() -> None:
    narrow: Callable[[float], GateConfig] = lambda norm: GateConfig(unlearn_norm=norm)  # noqa: E731 - one use
    check(moved(1.0), sent(), UNLEARN, narrow(0.11))
    with pytest.raises(Rejected):
        check(moved(1.0), sent(), UNLEARN, narrow(0.09))


def test_an_unlearned_model_that_is_the_one_that_was_sent_is_refused() -> None:
    with pytest.raises(Rejected, match="is the one that was sent"):
        check(sent(), sent(), UNLEARN, CONFIG)
    assert check(sent(), sent(), TRAIN, CONFIG) == 0.0


def test_an_unlearning_that_hardly_moved_anything_is_refused() -> None:
    least = least_step(CONFIG, UnlearnConfig(lr=1e-3))
    with pytest.raises(Rejected, match=r"a single pass moves them by 0\.001 at least"):
        check(moved(0.005), sent(), UNLEARN, CONFIG, least=least)
    assert check(moved(0.02), sent(), UNLEARN, CONFIG, least=least) == pytest.approx(0.02, rel=1e-3)
    assert least_step(CONFIG, UnlearnConfig(lr=1e-3, method="pga")) == pytest.approx(1e-5)
