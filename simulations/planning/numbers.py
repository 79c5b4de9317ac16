"""The numbers of a federation that its plan is computed from."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from common.settings import Fraction, Positive, Settings

MONTH_DAYS = 365.0 / 12
LEAST_CONTROLS = 100
"""Never-seen patients of the federation below which no number of rehearsals helps: all share these controls."""
LEAST_CONTROLS_OF_SITE = 20
"""With fewer at a hospital none of its patients can stand out at the level of 5 %."""


class FederationNumbers(Settings):
    """What a hospital knows of its federation, and what a plan assumes."""

    patients: int = Field(ge=1)
    """Training patients of the federation."""
    never_seen: int = Field(ge=0)
    """Never-seen audit patients of the federation."""
    hospitals: int = Field(default=4, ge=1)
    revocations_a_month: Positive
    deadline_days: Positive = 30.0
    """From the receipt of a revocation."""
    lead_days: float = Field(default=7.0, ge=0.0)
    """A batch is trained so long before the first date."""
    training_hours: Positive
    """Of one training of the federation's model."""
    window_days: float = Field(default=3.0, ge=0.0)
    """Revocations within it share an unlearning campaign."""
    folds: int = Field(default=4, ge=0)
    """Fold models for targets."""
    audit_folds: int = Field(default=2, ge=0)
    """Fold models for the audit."""
    rehearsals: int = Field(default=48, ge=0)
    campaign_cost: Fraction = 0.05
    """Of a campaign and of a rehearsal, as a share of a training."""
    largest_campaign: int = Field(default=9, ge=1)
    """Patients of the largest rehearsal: a qualification covers no larger campaign."""
    not_conforming: Fraction = 0.05
    """Share of honest campaigns that do not conform, and are retrained with the next batch."""

    @model_validator(mode="after")
    def _lead_within_deadline(self) -> Self:
        if self.lead_days >= self.deadline_days:
            raise ValueError("lead_days: shorter than deadline_days, or nothing can wait")
        return self

    @property
    def a_year(self) -> float:
        """Revocations."""
        return 12 * self.revocations_a_month

    @property
    def a_day(self) -> float:
        """Revocations."""
        return self.revocations_a_month / MONTH_DAYS

    @property
    def longest_wait(self) -> float:
        """Days that a revocation can wait for others."""
        return self.deadline_days - self.lead_days
