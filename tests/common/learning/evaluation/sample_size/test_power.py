"""The simulation behind the tables, with fewer draws."""

from __future__ import annotations

import numpy as np
import pytest

from common.learning.evaluation.attacks.loss_auc import loss_auc
from common.learning.evaluation.sample_size.power import SHAPES, Shape, estimates, main, simulate, smallest_detected

DRAWS = 3000
SLACK = 3 * (0.05 * 0.95 / DRAWS) ** 0.5
"""Three standard errors of a share of 5 %."""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("true_auc", [0.60, 0.40])
@pytest.mark.parametrize("patients", [10, 20, 40, 80, 160])
def test_a_model_at_the_margin_is_accepted_in_at_most_five_percent(
    shape: Shape, true_auc: float, patients: int
) -> None:
    found = simulate(true_auc, patients, shape, DRAWS, np.random.default_rng(patients))
    assert found.auc.mean() == pytest.approx(true_auc, abs=0.01)
    assert found.within(0.90, 0.40, 0.60).mean() <= 0.05 + SLACK


@pytest.mark.parametrize("patients", [5, 10, 20, 40])
def test_the_interval_covers_the_truth_as_often_as_it_says(patients: int) -> None:
    found = simulate(0.5, patients, "shift", DRAWS, np.random.default_rng(patients))
    assert 1 - found.outside(0.90, 0.5, 0.5).mean() >= 0.90 - 3 * (0.09 / DRAWS) ** 0.5


def test_the_rank_formula_gives_the_auc_of_pairs() -> None:
    rng = np.random.default_rng(0)
    member, control = rng.normal(size=(2, 9, 7))
    found = estimates(member, control)
    ones = np.ones(7)
    assert found.auc == pytest.approx([float(loss_auc(a, b, ones, ones)) for a, b in zip(member, control, strict=True)])


def test_more_patients_tell_smaller_differences_and_a_model_that_forgot_is_accepted_with_enough() -> None:
    rng = np.random.default_rng(0)
    few, many = (smallest_detected(n, 1000, rng) for n in (10, 160))
    assert few is not None
    assert many is not None
    assert many < few / 2
    shares = [simulate(0.5, n, "shift", 1000, rng).within(0.90, 0.40, 0.60).mean() for n in (40, 320)]
    assert shares[0] < 0.05
    assert shares[1] > 0.9


def test_the_command_prints_two_markdown_tables(capsys: pytest.CaptureFixture[str]) -> None:
    main(draws=200)
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert len(tables) == 2
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
