"""What a qualification fixes beforehand."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from common.settings import Fraction, Positive, Settings

LEAST_REHEARSALS = 39
"""With fewer, the most extreme campaign of all cannot have p <= .05 in margins and in process together."""
LEAST_CELL = 5
"""Patients behind a figure that leaves a hospital."""


class QualificationPlan(Settings):
    """Registered before the first rehearsal; nothing in it may change afterwards."""

    rehearsals: int = Field(default=48, ge=2, le=1000)
    """Number of rehearsals; fewer than 39 never qualify."""
    sizes: tuple[int, ...] = Field(default=(1, 5, 9), min_length=1, max_length=20)
    """Patients of each rehearsal, in turn. Campaigns from the smallest to the largest size are covered."""
    auc_margin: Positive = 0.10
    """Q1 and Q3: half-width of the band around 0 that must contain the interval of D in every branch."""
    share_limit: Fraction = 0.15
    """Q2: upper limit of the share of patients who stand out at `share_level`, on either side."""
    share_level: Fraction = 0.05
    """Q2: p from which a patient stands out from the never-seen patients."""
    utility_tolerance: Fraction = 0.05
    """Q4: largest mean loss of test AUC."""
    least_class: int = Field(default=30, ge=5)
    """Q4: test patients with a class, and without it, from which a hospital is judged on its own."""
    level: float = Field(default=0.05, gt=0.0, lt=0.5)
    """Probability of a false qualification, over all attempts together."""
    attempts: int = Field(default=1, ge=1, le=2)
    """Attempts that may be made; each is judged at `level` divided by their number."""
    least_controls: int = Field(default=100, ge=20)
    """Fewest never-seen patients of the federation with which a qualification begins."""
    controls_per_site: int = Field(default=20, ge=5)
    """Fewest never-seen patients with which a hospital rehearses: with 19 no patient can stand out at .05."""
    controls_per_label: int = Field(default=2, ge=2)
    """Fewest never-seen patients with a label at a hospital; with fewer, no patient with this label is drawn there."""
    wave: int = Field(default=10, ge=1, le=100)
    """Most rehearsals whose models travel in one message."""
    wave_bytes: int = Field(default=256 * 2**20, ge=2**20)
    """Most bytes of one message of a wave."""
    retries: int = Field(default=2, ge=0, le=10)
    """Times that a wave is repeated, with the same patients, after an exchange that failed."""
    valid_days: int = Field(default=365, ge=1)
    gone_share: Fraction = 0.20
    """Share of training patients after whose revocation the qualification ends."""
    seed: int = 0

    @model_validator(mode="after")
    def _positive_sizes(self) -> Self:
        if min(self.sizes) < 1:
            raise ValueError("a rehearsal has at least one patient")
        return self

    @property
    def attempt_level(self) -> float:
        """Level at which one attempt is judged."""
        return self.level / self.attempts

    @property
    def patients(self) -> int:
        """Patients of all rehearsals."""
        return sum(self.size(number) for number in range(self.rehearsals))

    def size(self, number: int) -> int:
        """Patients of rehearsal `number`, which starts at 0."""
        return self.sizes[number % len(self.sizes)]

    def covers(self, patients: int) -> bool:
        """Whether campaigns of so many patients are of the size class that is rehearsed."""
        return min(self.sizes) <= patients <= max(self.sizes)
