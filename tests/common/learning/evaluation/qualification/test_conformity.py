"""Conformity of a campaign, the drift alarm, and when a qualification ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from common.learning.evaluation.qualification.conformity import Process, conforms
from common.learning.evaluation.qualification.drift import drift_alarm
from common.learning.evaluation.qualification.plan import QualificationPlan
from common.learning.evaluation.qualification.validity import Circumstances, lapsed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
THEN = Circumstances(
    configuration="a", lineage="v1", aggregation="replace", sites=("a", "b"), labels=(0, 1), train_patients=100, at=NOW
)


def process(rng: np.random.Generator, **update: object) -> Process:
    usual = Process(
        patients=5, gap=float(rng.uniform(0.02, 0.05)), norm=float(rng.lognormal(0, 0.2)),
        passes=int(rng.integers(8, 12)), reached=True,
    )  # fmt: skip
    return usual.model_copy(update=update)


def rehearsals(seed: int = 0) -> tuple[list[float], list[Process]]:
    rng = np.random.default_rng(seed)
    return sorted(np.abs(rng.normal(size=40)).round(1).tolist()), [process(rng) for _ in range(40)]


def test_a_campaign_like_the_rehearsals_conforms() -> None:
    distances, processes = rehearsals()

    found = conforms(distances, 0.7, processes, processes[3])

    assert found.conforms
    assert not found.reasons


def test_a_campaign_farther_than_all_rehearsals_does_not_conform() -> None:
    distances, processes = rehearsals()

    found = conforms(distances, 5.0, processes, processes[3])

    assert found.p_margins == pytest.approx(1 / 41)
    assert not found.conforms
    assert found.reasons[0].startswith("margins")


@pytest.mark.parametrize(
    "odd", [{"norm": 1e-9}, {"norm": 0.1}, {"passes": 1}, {"gap": 3.0}, {"reached": False}, {"passes": 40}]
)
def test_a_campaign_with_another_process_does_not_conform_however_good_its_figures(odd: dict[str, object]) -> None:
    distances, processes = rehearsals()

    found = conforms(distances, 0.0, processes, process(np.random.default_rng(9), **odd))

    assert not found.conforms
    assert found.reasons[0].startswith("process")


def test_an_honest_campaign_is_refused_in_five_per_cent_at_most() -> None:
    refused = 0
    runs = 300
    rng = np.random.default_rng(1)

    for _ in range(runs):
        distances = sorted(np.abs(rng.normal(size=41)).round(1))
        own = distances.pop(int(rng.integers(41)))
        processes = [process(rng) for _ in range(41)]
        refused += not conforms(distances, own, processes[:40], processes[40]).conforms

    assert refused / runs <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5


def test_the_alarm_rings_when_later_rehearsals_forget_less() -> None:
    rng = np.random.default_rng(2)
    worse = np.clip(rng.normal(0.3, 0.2, size=(40, 3)), -1, 1)

    assert "remembers more" in str(drift_alarm(worse.tolist(), QualificationPlan()))
    assert "forgets more" in str(drift_alarm((-worse).tolist(), QualificationPlan()))


def test_the_alarm_stays_silent_at_the_edge_of_the_margin() -> None:
    rng = np.random.default_rng(3)
    rung = [
        drift_alarm(np.clip(rng.normal(0.1, 0.25, size=(40, 3)), -1, 1).tolist(), QualificationPlan()) is not None
        for _ in range(100)
    ]

    assert np.mean(rung) <= 0.05
    assert drift_alarm([], QualificationPlan()) is None


def test_a_qualification_holds_for_what_was_rehearsed() -> None:
    assert lapsed(QualificationPlan(), THEN, THEN, 1) == ()


@pytest.mark.parametrize(
    ("update", "patients", "reason"),
    [
        ({"configuration": "b"}, 1, "settings"),
        ({"lineage": "v2"}, 1, "was retrained"),
        ({"aggregation": "relay"}, 1, "aggregation relay"),
        ({"sites": ("a", "b", "c")}, 1, "c did not take part"),
        ({"labels": (0, 1, 2)}, 1, "class 2"),
        ({}, 10, "10 patients at once"),
        ({"train_patients": 80}, 1, "20% of the patients"),
        ({"at": NOW + timedelta(days=366)}, 1, "older than 365 days"),
    ],
)
def test_a_qualification_ends_where_something_was_not_rehearsed(
    update: dict[str, object], patients: int, reason: str
) -> None:
    found = lapsed(QualificationPlan(), THEN, THEN.model_copy(update=update), patients)

    assert len(found) == 1
    assert reason in found[0]


def test_an_alarm_ends_a_qualification() -> None:
    assert lapsed(QualificationPlan(), THEN, THEN, 1, "it drifted") == ("it drifted",)
