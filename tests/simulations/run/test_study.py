"""The page that a study writes, from results alone."""

from __future__ import annotations

from collections.abc import Callable

from simulations.result import Result
from simulations.run.study import study_markdown

Make = Callable[..., Result]


def test_each_forgetting_hospital_has_a_row_a_branch_with_the_mean_over_seeds(make_result: Make) -> None:
    results = [make_result(forgetting=2), make_result(forgetting=2)]
    for at, result in enumerate(results):
        result.models["unlearned"].mia_by_site["site-1"]["text"].auc = 0.4 + 0.2 * at
    page = study_markdown(results, title="made up", command="none")
    row = next(line for line in page.splitlines() if line.startswith("| site-1 | text |"))
    assert row.endswith("| 0.500 |")
    assert sum(line.startswith("| site-2 |") for line in page.splitlines()) == 3


def test_a_single_forgetting_hospital_has_no_table_of_its_own(make_result: Make) -> None:
    assert "each forgetting hospital" not in study_markdown([make_result()], title="made up", command="none")
