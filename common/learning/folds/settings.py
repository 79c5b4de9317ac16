"""Settings of the fold models. Nothing here imports torch: a hospital reads the settings before it accepts them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from common.settings import Settings

Family = Literal["targets", "audit"]
"""`targets` gives unlearning its targets, `audit` measures the result: no model and no assignment is in both."""
FAMILIES: tuple[Family, ...] = ("targets", "audit")
MOST_FOLDS = 16


class FoldsConfig(Settings):
    """Models that are trained with the first one, each without a part of every hospital's training patients.

    They cost `targets - 1 + audit - 1` trainings a lineage, before anybody revokes. Only scores are kept of them.
    """

    targets: int = Field(default=0, ge=0, le=MOST_FOLDS)
    """Number of fold models (K) for the targets of unlearning; 0 is off, 4 is enough for small federations."""
    audit: int = Field(default=0, ge=0, le=MOST_FOLDS)
    """Number of fold models for the audit, by which a patient's difficulty is taken into account; 0 is off."""
    message_bytes: int = Field(default=256 * 2**20, ge=2**20)
    """Largest message in bytes: as many fold models as fit travel together in each exchange, and at least one."""

    @model_validator(mode="after")
    def _no_single_fold(self) -> Self:
        # The only fold holds everybody, so that its model would be trained on nobody.
        for name in FAMILIES:
            if self.count(name) == 1:
                raise ValueError(f"{name} = 1 leaves nobody to train on: use 0, or 2 and more")
        return self

    def count(self, family: Family) -> int:
        """Number of models of a family."""
        return self.targets if family == "targets" else self.audit

    @property
    def trainings(self) -> float:
        """Cost in trainings of one model: each fold model is trained on all patients but those of its fold."""
        return float(sum(max(0, self.count(name) - 1) for name in FAMILIES))
