"""What a hospital reports of its rehearsals, once, at the end: sums over all of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from common.learning.evaluation.figures import MOST_CLASSES, Branch, Count, Figures

Signed = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Spread = Annotated[float, Field(ge=0.0, le=1e6, allow_inf_nan=False)]


class Moments(Figures):
    """Weighted sums of one value x per rehearsal, with weight w the number of its patients.

    Attributes:
        count: number of rehearsals.
        weight: sum of w.
        weight_squares: sum of w^2.
        total: sum of w x.
        cross: sum of w^2 x.
        squares: sum of w^2 x^2.
    """

    count: Count = 0
    weight: Spread = 0.0
    weight_squares: Spread = 0.0
    total: Signed = 0.0
    cross: Signed = 0.0
    squares: Spread = 0.0

    def __add__(self, other: Moments) -> Moments:
        return Moments(**{name: getattr(self, name) + getattr(other, name) for name in Moments.model_fields})

    @property
    def mean(self) -> float:
        """Mean over the patients; 0 of nothing."""
        return self.total / self.weight if self.weight else 0.0

    @property
    def variance(self) -> float:
        """Of the mean, between rehearsals: s2/M where all have the same size (a ratio estimator where not)."""
        if self.count < 2:
            return 0.0
        # The sum of w^2 (x - mean)^2, from sums that can be added up over hospitals.
        spread = self.squares - 2 * self.mean * self.cross + self.mean**2 * self.weight_squares
        return max(0.0, spread / self.weight**2 * self.count / (self.count - 1))


class Shared(Figures):
    """Variance of the weighted *sum* over rehearsals that comes from patients whom all rehearsals share.

    `variance` adds s2/C over strata; `by_freedom` adds (s2/C)^2/(C - 1), for the degrees of freedom.
    """

    variance: Spread = 0.0
    by_freedom: Spread = 0.0

    def __add__(self, other: Shared) -> Shared:
        return Shared(variance=self.variance + other.variance, by_freedom=self.by_freedom + other.by_freedom)


class BranchRehearsals(Figures):
    """One branch. Each value is a mean over a rehearsal's patients, less that under a model that never saw them."""

    rehearsed: Moments
    """D_m: after the rehearsal."""
    original: Moments
    """Before it."""
    nearer: Moments
    """How much farther from the original than from the fold model the patients stand after the rehearsal."""
    rehearsed_shared: Shared
    original_shared: Shared
    high: Count
    """Patients who stand out from the never-seen ones as known to the model."""
    low: Count
    """Patients who stand out as over-forgotten."""


class ClassLoss(Figures):
    """Loss of test AUC of one class at one hospital, paired by patient; positive means worse."""

    loss: Moments
    shared: Shared
    positives: Count
    negatives: Count


class SiteRehearsals(Figures):
    """A hospital's report on all rehearsals: of its own patients, and of the loss on its test patients."""

    site: str = Field(max_length=64)
    rehearsals: Count
    """Rehearsals of this hospital's patients."""
    patients: Count
    judged: Count
    """Patients who could stand out, for which the hospital needs enough never-seen patients."""
    controls: Count
    branches: dict[Branch, BranchRehearsals]
    distances: tuple[Annotated[float, Field(ge=0.0, le=1e6)], ...] = Field(max_length=1000)
    """Largest distance of each rehearsal, rounded and sorted: neither branch, direction nor rehearsal can be told."""
    utility: tuple[ClassLoss, ...] = Field(max_length=MOST_CLASSES)
