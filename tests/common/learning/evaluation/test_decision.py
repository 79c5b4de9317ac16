"""The decision, case by case."""

from __future__ import annotations

import numpy as np
import pytest

from common.learning.config import DecisionConfig
from common.learning.evaluation.decision import decide
from common.learning.evaluation.figures import Branch, ClassAuc, FederationFigures, Membership, Utility
from common.learning.evaluation.membership import membership
from common.learning.evaluation.merge import UNMEASURED, merge_membership
from common.learning.evaluation.scores import BRANCHES, Scores

CONFIG = DecisionConfig()


def _member(**more: object) -> Membership:
    base = {
        "forget_patients": 200, "control_patients": 200, "auc": 0.51, "variance": 0.0009, "ks": 0.05, "ks_p": 0.6,
        "accuracy_forget": 0.7, "accuracy_control": 0.7, "accuracy_variance": 0.002,
    }  # fmt: skip
    return Membership.model_validate(base | more)


def _test_set(*aucs: float, each: int = 400) -> Utility:
    classes = tuple(ClassAuc(wins=a * each * each, pairs=each * each, positives=each, negatives=each) for a in aucs)
    size = len(aucs)
    return Utility(patients=each, confusion=((0,) * size,) * size, auc=classes, loss_sum=0.0, loss_median=None)


def _figures(member: Membership | None = None, **sites: Utility) -> FederationFigures:
    good = _member()
    branches: dict[Branch, Membership] = dict.fromkeys(BRANCHES, good)
    if member is not None:
        branches["text"] = member
    return FederationFigures(
        groups={}, membership=branches, membership_by_site={}, test_by_site=sites or {"a": _test_set(0.8, 0.8)}
    )


BEFORE = _figures()


def test_accepted_when_all_of_it_holds() -> None:
    assert decide(BEFORE, _figures(), CONFIG).outcome == "accepted"


@pytest.mark.parametrize(
    ("change", "outcome", "reason"),
    [
        ({"auc": 0.75}, "rejected", "still remembers"),
        ({"auc": 0.25}, "rejected", "over-forgot"),
        ({"auc": 0.0, "variance": 1e-6}, "rejected", "over-forgot"),
        ({"auc": 0.57}, "inconclusive", "reaches out of the band"),
        ({"auc": 0.5, "variance": 0.01}, "inconclusive", "wider than the band"),
        ({"ks_p": 0.01}, "inconclusive", "KS p = 0.010"),
        ({"accuracy_forget": 0.95}, "inconclusive", "accuracy on forget"),
        ({"auc": None, "missing": {"auc": "no patients"}}, "inconclusive", "no patients"),
        ({"missing": {UNMEASURED: "1 patients at sites"}}, "inconclusive", "1 patients at sites"),
        ({"missing": {"matching": "2 patients have a label"}}, "inconclusive", "2 patients have a label"),
    ],
)
def test_one_branch_is_enough_to_refuse(change: dict[str, object], outcome: str, reason: str) -> None:
    decision = decide(BEFORE, _figures(_member(**change)), CONFIG)
    assert decision.outcome == outcome
    assert any(reason in line and line.startswith("text") for line in decision.reasons)


def test_an_excess_of_accuracy_within_its_interval_is_no_reason() -> None:
    # .25 - 1.645 * .0447 is .18, beyond the margin; with variance .01, .25 - .16 is not.
    assert decide(BEFORE, _figures(_member(accuracy_forget=0.95, accuracy_variance=0.01)), CONFIG).outcome == "accepted"


def test_a_drop_of_utility_is_told_by_site_and_class() -> None:
    before = _figures(a=_test_set(0.8, 0.8), b=_test_set(0.8, 0.8))
    after = _figures(a=_test_set(0.8, 0.8), b=_test_set(0.8, 0.6))
    decision = decide(before, after, CONFIG)
    assert decision.outcome == "rejected"
    assert decision.reasons == ("b: test AUC of class 1 dropped by 0.20",)


def test_the_two_classes_of_a_binary_task_are_one_drop_and_of_three_each_counts() -> None:
    fell = decide(_figures(a=_test_set(0.8, 0.8)), _figures(a=_test_set(0.6, 0.6)), CONFIG)
    assert fell.reasons == ("a: test AUC of class 1 dropped by 0.20",)
    fell = decide(_figures(a=_test_set(0.8, 0.8, 0.8)), _figures(a=_test_set(0.6, 0.8, 0.6)), CONFIG)
    assert [reason[:24] for reason in fell.reasons] == ["a: test AUC of class 0 d", "a: test AUC of class 2 d"]


def test_a_drop_that_few_test_patients_cannot_prove_is_a_doubt() -> None:
    before = _figures(a=_test_set(0.8, each=10))
    after = _figures(a=_test_set(0.7, each=10))
    decision = decide(before, after, CONFIG)
    assert decision.outcome == "inconclusive"
    assert "class 0 dropped by 0.10 (its standard error" in decision.reasons[0]


def test_a_drop_within_the_tolerance_is_accepted() -> None:
    assert decide(_figures(a=_test_set(0.80)), _figures(a=_test_set(0.76)), CONFIG).outcome == "accepted"


def test_a_site_without_figures_before_or_after_is_a_doubt() -> None:
    two = _figures(a=_test_set(0.8, 0.8), b=_test_set(0.8, 0.8))
    assert "b: no test figures from after" in decide(two, BEFORE, CONFIG).reasons
    assert "b: no test figures from before" in decide(BEFORE, two, CONFIG).reasons


def test_utility_that_nobody_could_measure_is_a_doubt() -> None:
    nothing = _figures(a=Utility(patients=0, confusion=(), auc=(), loss_sum=0.0, loss_median=None))
    decision = decide(nothing, nothing, CONFIG)
    assert decision.outcome == "inconclusive"
    assert "utility could not be measured" in decision.reasons[0]


def _losses(values: np.ndarray) -> Scores:
    """Two classes, all of class 0; a logit of -v has a loss that rises with v."""
    logits = np.zeros((3, len(values), 2))
    logits[:, :, 0] = -values
    return Scores(logits, np.zeros(len(values), dtype=np.int64), np.arange(len(values)))


@pytest.mark.parametrize("controls", [5, 300])
def test_five_patients_are_never_accepted_however_even_they_look(controls: int) -> None:
    rng = np.random.default_rng(0)
    spread = np.linspace(-1, 1, controls)
    cases = [np.zeros(5), np.linspace(-1, 1, 5), *rng.normal(size=(20, 5))]

    for control in (spread, np.zeros(controls)):
        for values in cases:
            found = membership(_losses(values), _losses(control), 0, draws=60, rng=rng)
            assert decide(BEFORE, _figures(found), CONFIG).outcome != "accepted"
            twice = merge_membership([found, found])
            assert decide(BEFORE, _figures(twice), CONFIG).outcome != "accepted"


def test_a_destroyed_model_is_rejected_and_not_praised_for_an_attack_of_zero() -> None:
    rng = np.random.default_rng(0)
    found = membership(_losses(np.full(30, 9.0)), _losses(rng.normal(size=30)), 0, draws=60, rng=rng)
    assert found.auc == 0.0
    assert decide(BEFORE, _figures(found), CONFIG).outcome == "rejected"


def test_three_patients_in_perfect_order_by_chance_do_not_reject() -> None:
    # One in ten such threes are in perfect order though nobody remembers them.
    found = membership(_losses(np.full(3, 9.0)), _losses(np.arange(3.0)), 0, draws=60, rng=np.random.default_rng(0))
    assert decide(BEFORE, _figures(found), CONFIG).outcome == "inconclusive"


def test_a_branch_that_nobody_is_to_be_forgotten_on_is_not_judged() -> None:
    reason = dict.fromkeys(("auc", "variance", "ks", "ks_p"), "no patients to forget here")
    nobody = _member(forget_patients=0, auc=None, variance=None, ks=None, ks_p=None, missing=reason)
    assert decide(BEFORE, _figures(nobody), CONFIG).outcome == "accepted"
    all_three = _figures(nobody).model_copy(update={"membership": dict.fromkeys(BRANCHES, nobody)})
    assert decide(BEFORE, all_three, CONFIG).outcome == "inconclusive"
