"""No forgetting hospital's figures hide what the model remembers of another one's patients."""

from __future__ import annotations

import pytest

from common.learning.config import DecisionConfig
from common.learning.evaluation.figures import Branch, ClassAuc, FederationFigures, Membership, SiteFigures, Utility
from common.learning.evaluation.merge import AuditMerge
from common.learning.evaluation.scores import BRANCHES
from common.learning.records import Subset
from server.campaign.verdict.judging import judge_candidate, judge_training
from server.rounds.unlearning.base import Collected

CONFIG = DecisionConfig(utility_tolerance=0.05, auc_margin=0.2, ks_alpha=0.0, accuracy_margin=1.0)
UTILITY = Utility(
    patients=80,
    confusion=((36, 4), (4, 36)),
    auc=tuple(ClassAuc(wins=1440.0, pairs=1600, positives=40, negatives=40) for _ in range(2)),
    loss_sum=40.0,
    loss_median=0.5,
)


def site(auc: float, forget: int, control: int = 40) -> SiteFigures:
    member = Membership(
        forget_patients=forget, control_patients=control, auc=auc, variance=1e-4, ks=0.1, ks_p=0.9
    )  # fmt: skip
    branches: dict[Branch, Utility] = dict.fromkeys(BRANCHES, UTILITY)
    return SiteFigures(groups={"test": branches}, membership=dict.fromkeys(BRANCHES, member))


def collected(**pending: int) -> Collected:
    return Collected(
        forgetting=tuple(sorted(pending)),
        retain_studies=dict.fromkeys(pending, 100),
        pending=pending,
        registered={name: {str(Subset.AUDIT): 40} for name in pending},
    )


def figures(who: Collected, **sites: SiteFigures) -> FederationFigures:
    merging = AuditMerge(who.eligible(Subset.AUDIT))
    for name, part in sites.items():
        merging.add(name, part)
    return merging.result()


def test_many_patients_of_one_hospital_hide_no_memory_of_anothers() -> None:
    who = collected(liar=400, north=20)
    after = figures(who, liar=site(0.5, 400), north=site(0.95, 20))
    assert after.membership["fused"].auc == pytest.approx(0.52, abs=0.01)
    verdict = judge_candidate(after, after, who, CONFIG)
    assert not verdict.publishes
    assert verdict.reasons[0].startswith("north, image: membership AUC 0.95, 97.5% interval")
    assert not any("liar" in reason for reason in verdict.reasons)


def test_honest_hospitals_are_accepted_and_few_patients_refuse_nothing_by_themselves() -> None:
    who = collected(south=60, north=60)
    after = figures(who, south=site(0.48, 60), north=site(0.55, 60))
    assert judge_candidate(after, after, who, CONFIG).publishes
    who = collected(south=400, north=2)
    after = figures(who, south=site(0.5, 400), north=site(0.8, 2))
    assert judge_candidate(after, after, who, CONFIG).publishes


def test_variances_that_a_hospital_makes_up_refuse_no_candidate() -> None:
    who = collected(liar=3, north=60)
    after = figures(who, liar=site(0.75, 3), north=site(0.5, 60))
    assert judge_candidate(after, after, who, CONFIG).publishes


def test_a_bystander_with_a_million_test_patients_is_at_most_three_fifths_of_what_is_pooled() -> None:
    big = UTILITY.model_copy(
        update={
            "patients": 2 * 10**6,
            "confusion": ((9 * 10**5, 10**5), (10**5, 9 * 10**5)),
            "auc": tuple(ClassAuc(wins=0.9 * 10**12, pairs=10**12, positives=10**6, negatives=10**6) for _ in range(2)),
        }
    )
    chance = UTILITY.model_copy(
        update={
            "confusion": ((20, 20), (20, 20)),
            "auc": tuple(ClassAuc(wins=800.0, pairs=1600, positives=40, negatives=40) for _ in range(2)),
        }
    )

    def tested(**sites: Utility) -> FederationFigures:
        return FederationFigures(groups={}, membership={}, membership_by_site={}, test_by_site=sites)

    before = tested(liar=big, north=UTILITY, south=UTILITY)
    after = tested(liar=big, north=chance, south=chance)
    vetoes = judge_training(before, after, CONFIG).vetoes
    assert any(reason.startswith("all sites together: balanced accuracy") for reason in vetoes)
    assert any(reason.startswith("all sites together: test AUC") for reason in vetoes)
