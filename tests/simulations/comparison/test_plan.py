from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import CohortError, ConfigError
from common.learning.config import SplitConfig
from common.learning.data.splits import split_cohort
from common.learning.records import Cohort, Split, Study, Subset
from common.settings import parse
from simulations.comparison.plan import cells, compared, forget_sets, grid, tuned_on
from simulations.comparison.projection import Measured, Projection
from simulations.comparison.runner import phases
from simulations.comparison.settings import ComparisonConfig, VariantConfig, comparison_names, load_comparison


def cohort(site: str, patients: int) -> Cohort:
    rows = (Study(f"{site}-{n}", f"{site}-{n}-a", Path("x"), "text", n % 3, site=site) for n in range(patients))
    return Cohort(tuple(rows), ("0", "1", "2"))


@pytest.fixture
def sites() -> tuple[dict[str, Cohort], dict[str, Split]]:
    cohorts = {name: cohort(name, 120) for name in ("a", "b")}
    return cohorts, {name: split_cohort(part, SplitConfig(), 3) for name, part in cohorts.items()}


def everybody(found: dict[str, tuple[str, ...]]) -> set[str]:
    return {patient for patients in found.values() for patient in patients}


def test_the_smaller_forget_sets_share_no_patient(sites: tuple[dict[str, Cohort], dict[str, Split]]) -> None:
    cohorts, splits = sites
    found = forget_sets(cohorts, splits, (0.25, 0.15, 0.2), ("a",), 0)
    trained = sum(len(split.patients(Subset.TRAIN)) for split in splits.values())
    assert not everybody(found[0.15]) & everybody(found[0.2])
    assert {size: len(everybody(chosen)) for size, chosen in found.items()} == {
        size: round(size * trained) for size in (0.15, 0.2, 0.25)
    }
    assert everybody(found[0.25]) <= set(splits["a"].patients(Subset.TRAIN))


def test_several_hospitals_share_a_forget_set_out(sites: tuple[dict[str, Cohort], dict[str, Split]]) -> None:
    cohorts, splits = sites
    found = forget_sets(cohorts, splits, (0.10,), ("a", "b"), 0)[0.10]
    assert sorted(len(patients) for patients in found.values()) == [5, 6]
    assert all(p.startswith(name) for name, patients in found.items() for p in patients)


def test_a_size_that_forgets_nobody_and_a_site_that_is_not_there_are_refused(
    sites: tuple[dict[str, Cohort], dict[str, Split]],
) -> None:
    with pytest.raises(CohortError, match=r"0\.1 % of 108 training patients"):
        forget_sets(*sites, (0.001,), ("a",), 0)
    with pytest.raises(ConfigError, match="no site 'c'"):
        forget_sets(*sites, (0.1,), ("c",), 0)


def test_no_patient_is_both_tuned_on_and_compared_and_those_who_belong_together_stay_together() -> None:
    whole = cohort("a", 60)
    groups = {"a-0": "twins", "a-33": "twins"}
    ours, theirs = (set(part(whole, groups, 3).patients) for part in (compared, tuned_on))
    assert not ours & theirs
    assert ours | theirs == set(whole.patients)
    assert 18 <= len(theirs) <= 22
    assert ("a-0" in theirs) == ("a-33" in theirs)


def test_only_forget_mi_is_crossed_with_the_aggregations() -> None:
    config = ComparisonConfig(
        methods=("scrub", "forget_mi_paper"), aggregations=("replace", "naive"), sizes=(0.03, 0.1), seeds=3
    )
    names = [cell.name for cell in cells(config, 0.1, 0)]
    assert names == [
        "original", "retrained", "scrub--replace", "forget_mi_paper--replace", "forget_mi_paper--naive",
    ]  # fmt: skip
    assert len(grid(config)) == 2 * 3 * len(names)


def test_variants_come_last_and_with_the_first_aggregation_alone() -> None:
    config = ComparisonConfig(
        methods=("scrub", "forget_mi_calibrated"),
        aggregations=("replace", "naive"),
        variants={"no-noise": VariantConfig(method="forget_mi_calibrated", settings={"unlearn": {"noise": "none"}})},
    )
    last = cells(config, 0.1, 0)[-1]
    assert (last.method, last.variant, last.name) == ("forget_mi_calibrated", "no-noise", "no-noise--replace")
    assert sum(bool(cell.variant) for cell in grid(config)) == config.seeds


VARIANT = {"method": "scrub", "settings": {}}


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"methods": ["scrub"], "variants": {"a": {**VARIANT, "method": "ssd"}}}, "variant of 'ssd'"),
        ({"methods": ["scrub"], "variants": {"ssd": VARIANT}}, "may not be called 'ssd'"),
        ({"methods": ["scrub"], "variants": {"retrained": VARIANT}}, "may not be called 'retrained'"),
        ({"methods": ["scrub"], "variants": {"../a": VARIANT}}, "pattern"),
        ({"methods": ["magic"]}, "unknown method 'magic'"),
        ({"methods": ["retrain"]}, "always there"),
        ({"methods": ["scrub", "scrub"]}, "methods names one twice"),
        ({"sizes": [1.5]}, "shares between 0 and 1"),
        ({"seeds": 3, "tuning": {"seed": 2}}, "one of the seeds that are compared"),
    ],
)
def test_settings_that_make_no_comparison_are_refused(values: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        parse(ComparisonConfig, values, "test")


@pytest.mark.parametrize("name", comparison_names())
def test_every_preset_of_comparisons_is_valid(name: str) -> None:
    config = load_comparison(name, [])
    assert len(config.methods) + len(config.variants) >= 6


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="paper-covid, quick"):
        load_comparison("nope", [])


def test_shares_run_every_seed_once_and_the_projection_is_the_sum_of_all_jobs() -> None:
    config = load_comparison("quick", ["seeds=5"])
    projection = Projection(config, Measured(round=2.0, cell=5.0))
    alone = phases(config, projection, (0, 1))
    parts = [phases(config, projection, (k, 2)) for k in range(2)]
    assert sorted(job.seed for job in alone[2]) == sorted(job.seed for part in parts for job in part[2])
    assert sum(job.weight for jobs in alone for job in jobs) == pytest.approx(projection.total)
    assert [job.seed for job in alone[2]] == [0, 1, 2, 3, 4]
