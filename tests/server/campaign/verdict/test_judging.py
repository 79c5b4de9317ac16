"""No model is published that is certainly worse than the version before it, or a first one that learned nothing."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from common.learning.config import DecisionConfig
from common.learning.evaluation.figures import ClassAuc, FederationFigures, Utility
from server.campaign.verdict.judging import judge_training, why_undecidable
from server.rounds.checks.update_gate import AggregateRefusedError, check_aggregate, check_candidate
from server.rounds.unlearning.base import Collected
from server.settings import GateConfig

CONFIG = DecisionConfig(utility_tolerance=0.05)


def measured(auc: float, of: int, right: float = 0.8) -> Utility:
    """Two classes of `of` patients each."""
    pairs = of * of
    called = round(right * of)

    return Utility(
        patients=2 * of,
        confusion=((called, of - called), (of - called, called)),
        auc=tuple(ClassAuc(wins=auc * pairs, pairs=pairs, positives=of, negatives=of) for _ in range(2)),
        loss_sum=1.0,
        loss_median=0.5,
    )


def figures(sites: Mapping[str, Utility]) -> FederationFigures:
    return FederationFigures(groups={}, membership={}, membership_by_site={}, test_by_site=dict(sites))


def outcome(before: Mapping[str, Utility] | None, after: Mapping[str, Utility]) -> str:
    return judge_training(None if before is None else figures(before), figures(after), CONFIG).outcome


def test_a_first_model_must_be_better_than_chance_where_that_can_be_told() -> None:
    assert outcome(None, {"north": measured(0.8, 40), "south": measured(0.8, 40)}) == "accepted"
    assert outcome(None, {"north": measured(0.5, 40), "south": measured(0.52, 40)}) == "rejected"
    assert outcome(None, {"north": measured(0.2, 40), "south": measured(0.9, 40)}) == "rejected"


def test_of_a_first_model_nothing_is_asked_that_so_few_test_patients_cannot_show() -> None:
    verdict = judge_training(None, figures({"north": measured(0.5, 5)}), CONFIG)
    assert verdict.publishes
    assert "too few test patients" in verdict.text
    assert outcome(None, {}) == "accepted"
    verdict = judge_training(None, figures({"north": measured(0.62, 20)}), CONFIG)
    assert verdict.publishes
    assert "not yet shown to be better than chance" in verdict.text
    assert outcome(None, {"north": measured(0.0, 3), "south": measured(1.0, 3)}) == "accepted"


def test_the_version_of_the_trial_is_not_published() -> None:
    before = {"north": measured(0.97, 20), "south": measured(0.66, 20), "west": measured(0.9, 20)}
    after = {"north": measured(0.51, 20, 0.5), "south": measured(0.31, 20, 0.5), "west": measured(0.4, 20, 0.5)}
    verdict = judge_training(figures(before), figures(after), CONFIG)
    assert not verdict.publishes
    assert any(reason.startswith("all sites together") for reason in verdict.vetoes)


def test_a_model_that_is_as_good_is_published_and_one_hospital_alone_can_stop_a_worse_one() -> None:
    before = {name: measured(0.85, 40) for name in ("north", "south", "west")}
    assert outcome(before, before) == "accepted"
    assert outcome(before, {**before, "west": measured(0.4, 40)}) == "rejected"


def test_a_hospital_that_is_away_keeps_nobody_from_being_forgotten() -> None:
    before = {name: measured(0.85, 40) for name in ("north", "south")}
    assert outcome(before, {"north": before["north"]}) == "accepted"
    assert outcome(before, {"west": before["north"]}) == "inconclusive"


def test_calls_that_all_go_to_one_class_are_seen_though_the_order_stays() -> None:
    one_sided = measured(0.85, 60).model_copy(update={"confusion": ((60, 0), (60, 0))})
    before = {name: measured(0.85, 60) for name in ("north", "south")}
    assert outcome(before, dict.fromkeys(before, one_sided)) == "rejected"


@pytest.mark.parametrize("patients", [1, 2, 3])
def test_few_test_patients_stop_nothing_by_chance(patients: int) -> None:
    assert outcome({"north": measured(1.0, patients)}, {"north": measured(0.5, patients, 0.5)}) == "accepted"


@pytest.mark.parametrize(
    ("forget", "control", "margin", "decidable"),
    [(1, 100, 0.1, False), (2, 100, 0.1, False), (16, 20, 0.1, False), (16, 20, 0.35, True), (160, 160, 0.1, True)],
)
def test_what_no_audit_could_decide_is_known_before(forget: int, control: int, margin: float, decidable: bool) -> None:
    sets = {"train": 9, "validation": 1, "calibration": 1, "never_seen_audit": control, "test": 1, "forget": forget}
    sets |= {"audit": control}
    collected = Collected(
        forgetting=("north",), retain_studies={"north": 9}, pending={"north": forget}, registered={"north": sets}
    )
    why = why_undecidable(collected, DecisionConfig(auc_margin=margin))
    assert (why is None) == decidable
    if why:
        assert f"{forget} against {control}" in why


def test_an_average_and_a_candidate_are_gated_as_replies_are() -> None:
    before = {"w": torch.ones(100)}
    gate = GateConfig()
    check_aggregate({"w": torch.full((100,), 1.4)}, before, "train", gate)
    check_candidate({"w": torch.full((100,), 1.4)}, before, gate)

    for bad in (torch.full((100,), 1.6), torch.full((100,), -1.0), torch.full((100,), float("nan")), torch.ones(99)):
        with pytest.raises(AggregateRefusedError):
            check_aggregate({"w": bad}, before, "train", gate)
        with pytest.raises(AggregateRefusedError):
            check_candidate({"w": bad}, before, gate)
