"""What is run: the cells, who is forgotten in each, and who is set aside for tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from common.errors import CohortError, ConfigError
from common.learning.data.splits import Groups, choose_forget, partition
from common.learning.records import Cohort, Split, Subset
from simulations.comparison.settings import ComparisonConfig

ORIGINAL = "original"
RETRAINED = "retrained"
BASELINES = (ORIGINAL, RETRAINED)
_CARVED_BY = 0
"""Seed that draws the patients for tuning. It is no setting, so that no choice of seeds can mix the two groups."""

ForgetSets = dict[float, dict[str, tuple[str, ...]]]
"""Forget patients by size, then by site."""


class Cell(BaseModel):
    """One model to measure."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: str
    aggregation: str
    """Empty for original and retrained."""
    size: float
    seed: int
    variant: str = ""
    """Name of the method's variant, or empty."""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.variant or self.method}--{self.aggregation}" if self.aggregation else self.method


def cells(config: ComparisonConfig, size: float, seed: int) -> tuple[Cell, ...]:
    """Cells of one size and seed: original and retrained, Forget-MI with each aggregation, others with the first.

    Variants come last.
    """
    plan = [Cell(method=name, aggregation="", size=size, seed=seed) for name in BASELINES]
    for method in config.methods:
        aggregations = config.aggregations if method.startswith("forget_mi") else config.aggregations[:1]
        plan += [Cell(method=method, aggregation=how, size=size, seed=seed) for how in aggregations]

    plan += [
        Cell(method=variant.method, aggregation=config.aggregations[0], size=size, seed=seed, variant=name)
        for name, variant in config.variants.items()
    ]

    return tuple(plan)


def grid(config: ComparisonConfig) -> tuple[Cell, ...]:
    """All cells."""
    return tuple(c for seed in range(config.seeds) for size in config.sizes for c in cells(config, size, seed))


def size_name(size: float) -> str:
    """`10` for .10, `2.5` for .025: per cent, as in names of folders and tables."""
    return f"{size * 100:g}"


def forget_sets(
    cohorts: Mapping[str, Cohort],
    splits: Mapping[str, Split],
    sizes: Sequence[float],
    sites: Sequence[str],
    seed: int,
) -> ForgetSets:
    """Patients who revoke at each of `sites`, for each share of all training patients; stratified by label.

    All but the largest set are disjoint, so that their figures are independent of one another given the model.

    Raises:
        ConfigError: a site is unknown.
        CohortError: a set would be empty, or nobody would be left to train on.
    """
    unknown = sorted(set(sites) - set(cohorts))
    if unknown:
        raise ConfigError(f"no site {unknown[0]!r}", where="run.forget_sites", remedy=f"use one of {sorted(cohorts)}")
    training_patients = sum(len(split.patients(Subset.TRAIN)) for split in splits.values())
    sets: ForgetSets = {}
    used: frozenset[str] = frozenset()

    for size in sorted(sizes):
        # The largest set may need patients of the smaller ones.
        if len(sizes) > 1 and size == max(sizes):
            used = frozenset()
        total = round(size * training_patients)
        # The first sites take one patient more each where the total does not divide.
        counts = [total // len(sites) + (at < total % len(sites)) for at in range(len(sites))]

        if not min(counts):
            raise CohortError(
                f"{size_name(size)} % of {training_patients} training patients cannot revoke at {len(sites)} sites",
                remedy="use more patients or larger sizes",
            )

        sets[size] = {}
        for name, count in zip(sites, counts, strict=True):
            remaining = cohorts[name].where(lambda study: study.patient not in used)  # noqa: B023 - called at once
            sets[size][name] = choose_forget(remaining, splits[name], count, seed)

        used |= {patient for patients in sets[size].values() for patient in patients}

    return sets


def compared(cohort: Cohort, groups: Groups, parts: int, exempt: frozenset[str] = frozenset()) -> Cohort:
    """Leave out the patients set aside for tuning; those in `exempt` always stay."""
    aside = _aside(cohort, groups, parts, exempt)
    return cohort.where(lambda study: study.patient not in aside)


def tuned_on(cohort: Cohort, groups: Groups, parts: int, exempt: frozenset[str] = frozenset()) -> Cohort:
    """One in `parts` patients, stratified by label; patients who belong together stay together. None in `exempt`."""
    aside = _aside(cohort, groups, parts, exempt)
    return cohort.where(lambda study: study.patient in aside)


def _aside(cohort: Cohort, groups: Groups, parts: int, exempt: frozenset[str]) -> frozenset[str]:
    # Who belongs together with a kept patient stays as well: the same picture must not lie in both groups.
    together = {groups[patient] for patient in exempt if patient in groups}
    free = cohort.where(lambda study: study.patient not in exempt and groups.get(study.patient) not in together)
    # Dealt as to sites, which keeps labels balanced and groups whole; the first part is set aside.
    dealt = partition(free, parts, _CARVED_BY, groups)
    return frozenset(study.patient for study in dealt.studies if study.site == dealt.sites[0])
