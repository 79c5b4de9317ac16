from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.errors import ResultError
from simulations.comparison.cell_result import CellResult, Roc, cell_path, load_cells, write_cell
from simulations.comparison.plan import Cell, size_name
from simulations.comparison.results import summary
from simulations.comparison.results.claims import claims, claims_markdown, verdict
from simulations.comparison.results.output import render
from simulations.comparison.results.plots import found_at
from simulations.comparison.results.roc import roc_of
from simulations.comparison.results.tables import tables_of, to_latex, to_markdown
from simulations.result import Cost, ModelName, Result

Make = Callable[..., Result]
LIKE: dict[str, ModelName] = {
    "original": "original",
    "retrained": "retrained",
    "forget_mi_calibrated": "unlearned",
    "scrub": "naive",
}
OTHERS: ModelName = "naive"  # fmt: skip


def cell(result: Result, method: str, seed: int, size: float = 0.1, variant: str = "", **figures: float) -> CellResult:
    model = result.models[LIKE.get(method, OTHERS)].model_copy(deep=True)
    for name, value in figures.items():
        setattr(model.test, name, value)
    model.mia["fused"].auc = model.mia["fused"].auc + 0.02 * seed  # type: ignore[operator]  # it is a number there
    baseline = method in ("original", "retrained")

    return CellResult(
        cell=Cell(method=method, aggregation="" if baseline else "replace", size=size, seed=seed, variant=variant),
        digest="",
        settings={},
        forget_sites=("site-1",),
        model=model,
        test_auc_by_class={"none": 0.8 + 0.1 * (method == "retrained"), "severe": None},
        roc=Roc(fpr=(0.0, 0.5, 1.0), tpr=(0.0, 0.75, 1.0)),
        cost=Cost(forward_units=100 if baseline else 8, seconds=10, bytes_up=50, bytes_down=50),
        decision=result.decision,
        versions={"fedforget": "0.1.0"},
    )


@pytest.fixture
def stored(make_result: Make, tmp_path: Path) -> Path:
    result = make_result()
    for method in LIKE:
        for seed in (0, 1):
            found = cell(result, method, seed)
            write_cell(cell_path(tmp_path, found.cell, size_name(0.1)), found)

    return tmp_path


def test_everything_is_drawn_from_the_stored_results_without_torch_or_flower(stored: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from simulations.comparison.results.output import write_output\n"
        "write_output(Path(sys.argv[1]), 'fedforget-sim compare')\n"
        "sys.exit(' '.join({'torch', 'flwr'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(stored)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in stored.iterdir() if path.is_file()}
    assert names == {"table.csv", "table.md", "table.tex", "trade-off-10.png", "roc-10.png", "report.html"}
    with (stored / "table.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["method"] for line in lines] == ["original", "retrained", "forget_mi_calibrated", "scrub"]
    ours = lines[2]
    assert float(ours["mia_auc_mean"]) == pytest.approx(0.508 + 0.01)
    # Student's t with one degree of freedom: 12.706 standard errors.
    assert float(ours["mia_auc_high95"]) - float(ours["mia_auc_mean"]) == pytest.approx(12.706 * 0.01, rel=1e-3)
    assert (ours["cost_passes_mean"], ours["mia_auc_seeds"]) == ("8.0", "2")


def test_mia_never_stands_without_cross_entropy_and_test_auc(stored: Path) -> None:
    found = summary.rows(load_cells(stored))
    seen = 0

    for table in tables_of(found, 0.1):
        if any("MIA" in name for name in table.head):
            seen += 1
            assert {"test AUC", "test cross-entropy"} <= set(table.head)

    assert seen == 2


def test_the_page_needs_nothing_else_and_names_every_method(stored: Path) -> None:
    results = load_cells(stored)
    page = render(summary.rows(results), results, "fedforget-sim compare --preset quick")
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xlink", "")
    for method in ("scrub", "forget_mi_calibrated (replace)"):
        assert page.count(f'<th scope="row">{method}</th>') == 5
    assert page.count("<svg") == 2


def test_damage_is_told_by_class_and_by_hospitals_where_nobody_revoked(stored: Path) -> None:
    row = next(row for row in summary.rows(load_cells(stored)) if row.method == "scrub")
    classes = summary.by_class(row)
    assert classes["none"] is not None
    assert classes["none"].value == pytest.approx(-0.1)
    assert classes["severe"] is None
    assert sorted(summary.by_other_hospital(row)) == ["site-2", "site-3", "site-4"]


def test_a_method_that_lost_test_auc_is_not_ranked_however_well_it_forgot(make_result: Make) -> None:
    result = make_result()
    found = [cell(result, m, s) for m in ("retrained", "forget_mi_calibrated") for s in (0, 1)]
    kept = summary.rows([*found, *(cell(result, "scrub", s, auc=0.83) for s in (0, 1))])
    placed, others = summary.ranking(kept)
    assert [place.row.method for place in placed] == ["scrub"]
    # Its test AUC is .80 in the made-up result, retrained has .84.
    assert others == ["forget_mi_calibrated (replace)"]
    assert "scrub" in summary.verdict(kept)


def test_a_variant_stands_in_the_tables_but_in_no_ranking_and_no_chart(make_result: Make) -> None:
    result = make_result()
    found = [cell(result, m, s) for m in ("retrained", "scrub", "forget_mi_calibrated") for s in (0, 1)]
    found += [cell(result, "scrub", s, variant="gentle") for s in (0, 1)]
    rows = summary.rows(found)
    assert [row.name for row in rows][-1] == "scrub, gentle"
    placed, others = summary.ranking(rows)
    assert "scrub, gentle" not in [*(place.row.name for place in placed), *others]
    assert [row.variant for row in summary.drawn(rows)] == [""] * 3
    assert tables_of(rows, 0.1)[0].rows[-1][0] == "scrub, gentle"


def test_the_claims_of_the_paper_are_asked_seed_by_seed_of_methods_that_kept_test_auc(make_result: Make) -> None:
    result = make_result()
    found = [cell(result, m, s) for m in ("retrained", "forget_mi_calibrated", "scrub", "ssd") for s in (0, 1)]

    for one in found:
        share = {"retrained": 0.4, "forget_mi_calibrated": 0.3, "scrub": 0.6, "ssd": 0.0}[one.cell.method]
        one.model.mia["fused"].svc = share + 0.1 * one.cell.seed
        one.model.test.auc = 0.5 if one.cell.method == "ssd" else 0.8

    claim_of = {claim.metric.key: claim for claim in claims(summary.rows(found))}
    assert sorted(claim_of) == ["forget_auc", "forget_f1", "mia_svc"]
    svc = claim_of["mia_svc"]
    assert (svc.others, svc.keeps_utility) == (1, True)
    # .3 less .6 in both seeds, and .1 from retrained where the other is .2 from it.
    assert svc.less.value == pytest.approx(-0.3)
    assert svc.nearer.value == pytest.approx(-0.1)
    assert verdict(svc) == "lower, nearer"
    for one in found:
        if one.cell.method == "scrub":
            one.model.mia["fused"].svc = 0.45 - 0.3 * one.cell.seed

    svc = claims(summary.rows(found))[0]
    assert verdict(svc) == "no clear difference (higher), no clear difference (nearer)"
    assert "-0.202" in "\n".join(claims_markdown(summary.rows(found)))
    assert claims(summary.rows([one for one in found if one.cell.method != "scrub"])) == []


def test_a_figure_that_some_seeds_lack_says_so(make_result: Make) -> None:
    result = make_result()
    found = [cell(result, m, s) for m in ("retrained", "scrub") for s in (0, 1)]
    found[-1].model.mia["fused"].svc = None
    table = tables_of(summary.rows(found), 0.1)[0]
    assert table.rows[1][1].endswith("(1 of 2 seeds)")


def test_a_cell_waits_for_the_retrained_model_of_its_seed(make_result: Make) -> None:
    result = make_result()
    found = [cell(result, "retrained", 0), cell(result, "scrub", 0), cell(result, "scrub", 1)]
    assert [len(row.pairs) for row in summary.rows(found)] == [1, 1]


def test_latex_escapes_what_it_must_and_markdown_has_a_line_a_method(stored: Path) -> None:
    results = load_cells(stored)
    found = summary.rows(results)
    tex = to_latex(found)
    assert r"forget\_mi\_calibrated (replace) & " in tex
    assert not re.search(r"(?<!\\)[%_]", tex)
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 5
    page = to_markdown(found, results, "fedforget-sim compare")
    assert sum(line.startswith("| scrub |") for line in page.splitlines()) == 5


def test_an_empty_folder_and_a_damaged_result_are_refused(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="no results of a comparison"):
        load_cells(tmp_path / "empty")
    path = next(stored.glob("cells/*/*/scrub--replace/result.json"))
    path.write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(ResultError, match="not a cell result"):
        load_cells(stored)


def test_the_curve_of_an_attack_by_hand() -> None:
    curve = roc_of(np.array([3.0, 2.0, 0.0]), np.array([2.0, 1.0]))
    assert curve.fpr == (0.0, 0.0, 0.5, 1.0, 1.0)
    assert curve.tpr == pytest.approx((0.0, 1 / 3, 2 / 3, 2 / 3, 1.0))
    assert found_at(curve, np.array([0.1, 0.6, 1.0])) == pytest.approx([1 / 3, 2 / 3, 1.0])
