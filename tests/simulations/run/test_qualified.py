"""The main job with a qualification: the demo in small, which has too few rehearsals to qualify."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulations.reporting.answer import headline, measured
from simulations.reporting.report import draw_summary, load_result
from simulations.run.main_job import run_main_job
from simulations.run.settings import load_settings

SMALL = [
    "hospitals.sites=2",
    "hospitals.patients=44",
    "train.rounds=2",
    "unlearn.passes=2",
    "folds.targets=2",
    "folds.audit=2",
    "qualification.rehearsals=4",
    "qualification.sizes=[1,4]",
    "qualification.least_controls=20",
    "qualification.controls_per_site=5",
]


def test_the_demo_qualifies_its_procedure_on_the_same_federation_as_the_preset_qualify() -> None:
    demo = load_settings("demo", [], {})
    alone = load_settings("qualify", [], {})
    assert demo.qualify
    assert demo.forget == 1
    assert demo.model_dump(exclude={"qualify", "forget_sites"}) == alone.model_dump(exclude={"qualify", "forget_sites"})
    # The rule is the product's own: nothing about it is made easier for the demo.
    rule = type(demo.qualification)()
    assert demo.qualification == rule.model_copy(update={"rehearsals": 100})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    run_main_job(load_settings("demo", SMALL, {}), out, resume=False, on_progress=lambda *_: None)
    return out


def test_one_forgotten_patient_rests_on_the_rehearsals_and_on_nothing_else(finished: Path) -> None:
    result = load_result(finished)
    assert not measured(result)
    assert result.rehearsals is not None
    assert result.rehearsals.rehearsals == 4
    assert result.decision.outcome == "inconclusive"
    assert result.decision.grounds is not None
    reasons = {descent.rung: descent.reason for descent in result.decision.grounds.descents}
    assert "4 rehearsals, 39 are needed to tell whether a campaign conforms" in reasons["qualified"]
    assert headline(result).startswith("It cannot be said yet.")
    assert draw_summary(result).startswith(b"\x89PNG")


def test_too_few_never_seen_patients_are_said_in_one_line_with_the_number_that_is_missing(tmp_path: Path) -> None:
    few = [*SMALL, "qualification.least_controls=100", "train.rounds=1", "folds.targets=0", "folds.audit=0"]
    config = load_settings("demo", few, {"retrain": False})
    result = run_main_job(config, tmp_path, resume=False, on_progress=lambda *_: None)
    assert result.rehearsals is None
    assert result.decision.outcome == "inconclusive"
    assert any(
        reason.startswith("not by qualification: the procedure cannot be qualified: 78 never-seen patients are missing")
        for reason in result.decision.reasons
    )
