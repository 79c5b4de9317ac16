"""Sums over a hospital's rehearsals: from comparisons to what is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import CohortError
from common.learning.evaluation.qualification.comparison import Comparison, distance
from common.learning.evaluation.qualification.figures import (
    BranchRehearsals,
    ClassLoss,
    Moments,
    Shared,
    SiteRehearsals,
)
from common.learning.evaluation.qualification.plan import LEAST_CELL, QualificationPlan
from common.learning.evaluation.scores import BRANCHES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rehearsals:
    """Comparisons of rehearsals with `size` patients each; arrays have one leading axis."""

    size: int
    comparison: Comparison

    def __len__(self) -> int:
        return len(self.comparison.rehearsed)


def tally(
    site: str, groups: Sequence[Rehearsals], control_labels: Ints, utility: Sequence[ClassLoss], plan: QualificationPlan
) -> SiteRehearsals:
    """The report of one hospital.

    Raises:
        CohortError: it has rehearsed, and with fewer than five patients or a single rehearsal.
    """
    rehearsals = sum(len(group) for group in groups)
    patients = sum(group.size * len(group) for group in groups)
    # Fewer would let the coordinator tell the figures of single patients.
    if rehearsals and (patients < LEAST_CELL or rehearsals < 2):
        raise CohortError(
            f"{rehearsals} rehearsals with {patients} patients are too few to report",
            where=site,
            remedy=f"rehearse with at least {LEAST_CELL} patients, and twice, at each hospital",
        )
    patients_judged = patients if len(control_labels) >= plan.controls_per_site else 0
    # Rounded and sorted: neither a patient's margin nor the order of rehearsals can be told.
    distances = [
        round(distance(row, group.size), 1) for group in groups for row in np.asarray(group.comparison.residual)
    ]

    return SiteRehearsals(
        site=site,
        rehearsals=rehearsals,
        patients=patients,
        judged=patients_judged,
        controls=len(control_labels),
        branches={name: _branch(groups, control_labels, at, patients_judged > 0) for at, name in enumerate(BRANCHES)},
        distances=tuple(sorted(distances)),
        utility=tuple(utility),
    )


def moments(values: Floats, weights: Floats) -> Moments:
    """Of one value per rehearsal and its number of patients, `[M]` each."""
    return Moments(
        count=values.size,
        weight=float(weights.sum()),
        weight_squares=float((weights**2).sum()),
        total=float((weights * values).sum()),
        cross=float((weights**2 * values).sum()),
        squares=float((weights**2 * values**2).sum()),
    )


def shared_variance(contributions: Floats, strata: Ints) -> Shared:
    """Of a sum over strata of means, given what each member `[C]` contributes to the mean of its stratum."""
    total = Shared()

    for stratum in np.unique(strata):
        values = contributions[strata == stratum]
        if len(values) > 1:
            variance = float(values.var(ddof=1)) / len(values)
            total += Shared(variance=variance, by_freedom=variance**2 / (len(values) - 1))

    return total


def _branch(groups: Sequence[Rehearsals], strata: Ints, branch: int, judged: bool) -> BranchRehearsals:
    def of(name: str) -> Floats:
        return np.concatenate([getattr(g.comparison, name)[:, branch] for g in groups]) if groups else np.zeros(0)

    def shared(name: str) -> Shared:
        if not groups:
            return Shared()
        # A control serves all rehearsals, so its contributions are summed before their variance is taken.
        by_control = sum(g.size * getattr(g.comparison, name)[:, branch].sum(axis=0) for g in groups)
        return shared_variance(np.asarray(by_control), strata)

    sizes = np.repeat([float(group.size) for group in groups], [len(group) for group in groups])

    return BranchRehearsals(
        rehearsed=moments(of("rehearsed"), sizes),
        original=moments(of("original"), sizes),
        nearer=moments(of("nearer"), sizes),
        rehearsed_shared=shared("rehearsed_by_control"),
        original_shared=shared("original_by_control"),
        high=int(of("high").sum()) if judged else 0,
        low=int(of("low").sum()) if judged else 0,
    )
