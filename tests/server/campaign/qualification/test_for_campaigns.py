"""A real campaign rests on the last qualification where that covers it and the campaign looks like its rehearsals."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from common.evidence.outcomes.grounds import Grounds, QualificationGrounds, unsupported
from common.learning.config import ExperimentConfig
from common.learning.evaluation.qualification.conformity import Process
from common.learning.evaluation.qualification.plan import QualificationPlan
from common.learning.evaluation.qualification.rule import BranchResult, Finding, Qualification, UtilityResult
from common.learning.evaluation.qualification.validity import Circumstances
from common.protocol.messages import UnlearnReply
from server.campaign.qualification.for_campaigns import LastQualification
from server.campaign.qualification.register import Register
from server.campaign.qualification.result import Result
from server.rounds.journal import MemoryJournal
from server.rounds.unlearning.at_sites import Unlearned
from server.rounds.unlearning.base import Collected
from server.settings import GateConfig, PolicyConfig, Terms

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
REHEARSALS = 48
GAP = 0.9 * ExperimentConfig().unlearn.tolerance
TERMS = Terms(experiment=ExperimentConfig(), policy=PolicyConfig(), gate=GateConfig())
THEN = Circumstances(
    configuration="c",
    lineage="v0001",
    aggregation="auto",
    sites=("north", "south"),
    labels=(0, 1),
    train_patients=400,
    at=NOW,
)
BRANCH = BranchResult(
    difference=0.01, low=-0.03, high=0.05, original=0.2, original_low=0.15, nearer=0.1, nearer_low=0.05, known=2,
    over_forgotten=1, share_bound=0.05, sensitive=True,
)  # fmt: skip


def result(*, qualified: bool = True) -> Result:
    return Result(
        registered=Register(
            plan=QualificationPlan(rehearsals=REHEARSALS, sizes=(1, 5)),
            circumstances=THEN,
            parent="ab" * 32,
            attempt=1,
            retention_rounds=1,
            rehearsals=(),
            registered=NOW,
        ),
        qualification=Qualification(
            qualified=qualified,
            rehearsals=REHEARSALS,
            patients=144,
            sizes=(1, 5),
            controls=120,
            level=0.05,
            branches={"image": BRANCH, "text": BRANCH, "fused": BRANCH},
            utility=(UtilityResult(site="", label=1, loss=0.0, bound=0.02),),
            findings=() if qualified else (Finding(part="Q3", text="there is too little memory to measure"),),
            distances=tuple(0.1 * number for number in range(REHEARSALS)),
        ),
        processes=tuple(
            Process(patients=1, gap=GAP * (0.8 + number / 200), norm=1.0 + number / 50, passes=20, reached=True)
            for number in range(REHEARSALS)
        ),
        refused={},
        cost={},
        finished=NOW,
    )


def collected(patients: int = 1, *sites: str) -> Collected:
    names = sites or ("north",)
    return Collected(forgetting=names, retain_studies=dict.fromkeys(names, 50), patients=patients)


def journal(norm: float = 1.5, passes: int = 20) -> MemoryJournal:
    reply = UnlearnReply(site="north", passes=passes, gaps=(GAP, GAP, GAP), cost=1.0, seconds=1.0)
    done = Unlearned(reply=reply, cost={}, received="cd" * 32, unlearned="ef" * 32, norm=norm)
    return MemoryJournal(**{"unlearn:north": done})


def asked(found: Result | None, now: Circumstances = THEN) -> LastQualification:
    return LastQualification(lambda: found, lambda _: now)


def campaign(distance: float | None = 1.0, patients: int = 1) -> SimpleNamespace:
    figures = SimpleNamespace(distance_by_site={} if distance is None else {"north": distance})
    return SimpleNamespace(collected=collected(patients), figures=figures)


def test_a_campaign_like_its_rehearsals_rests_on_them_with_grounds_that_hold() -> None:
    last = asked(result())
    assert last.uncovered("v0003", collected(), TERMS) == ""
    found = last.grounds("v0003", campaign(), TERMS, journal())  # type: ignore[arg-type]
    assert isinstance(found, QualificationGrounds)
    assert found.rehearsals == REHEARSALS
    assert float(found.conformity) > 0.05

    grounds = Grounds("qualified", 1, 50, qualification=found)
    assert unsupported("accepted_qualified", grounds, "2026-05-02T00:00:00Z") is None


@pytest.mark.parametrize(
    ("last", "patients", "sites", "why"),
    [
        (asked(None), 1, (), "never qualified"),
        (asked(result(qualified=False)), 1, (), "failed: Q3: there is too little memory"),
        (asked(result()), 2, ("north", "south"), "2 hospitals forget at once"),
        (asked(result()), 6, (), "6 patients at once were not rehearsed"),
        (asked(result(), THEN.model_copy(update={"lineage": "v0009"})), 1, (), "was retrained"),
        (asked(result(), THEN.model_copy(update={"configuration": "d"})), 1, (), "the settings"),
        (asked(result(), THEN.model_copy(update={"train_patients": 300})), 1, (), "20% of the patients"),
        (asked(result(), THEN.model_copy(update={"at": NOW + timedelta(days=400)})), 1, (), "older than"),
    ],
)
def test_a_campaign_that_is_not_covered_says_why(
    last: LastQualification, patients: int, sites: tuple[str, ...], why: str
) -> None:
    assert why in last.uncovered("v0003", collected(patients, *sites), TERMS)


def test_sabotage_at_one_patient_does_not_conform() -> None:
    """Margins of a model that still remembers, the model returned unchanged, and no comparison at all."""
    last = asked(result())
    for done, steps, why in (
        (campaign(20.0), journal(), "margins"),
        (campaign(), journal(norm=0.0, passes=0), "process"),
        (campaign(None), journal(), "was not compared"),
        (campaign(), MemoryJournal(), "not on record"),
    ):
        found = last.grounds("v0003", done, TERMS, steps)  # type: ignore[arg-type]
        assert isinstance(found, str)
        assert why in found
    assert replace(last, result=lambda: None).grounds("v", campaign(), TERMS, journal()) == (  # type: ignore[arg-type]
        "the procedure was never qualified"
    )
