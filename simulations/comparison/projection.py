"""Upper bound of a comparison's duration, from one round and one cell measured on this machine."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from simulations.comparison.plan import BASELINES, cells
from simulations.comparison.settings import ComparisonConfig


class Measured(BaseModel):
    """Seconds of a round of training in the whole federation, and of a cell: unlearning, retention, audit."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    round: float
    cell: float


@dataclass(frozen=True, slots=True)
class Projection:
    """Upper bounds in seconds on one core; validation patience ends many trainings earlier."""

    config: ComparisonConfig
    measurement: Measured

    @property
    def training(self) -> float:
        """Seconds to train an original or retrained model."""
        return self.config.run.experiment.train.rounds * self.measurement.round

    @property
    def tuning(self) -> float:
        """Of one method: what it may spend, and the trial that goes beyond, on each forget set."""
        tuning = self.config.tuning
        most = tuning.budget * self.training + tuning.draws * self.measurement.cell
        return min(most, tuning.draws * tuning.trials * self.cell)

    @property
    def cell(self) -> float:
        """Of one method on one seed and size; no method is projected to take less than half a training's tenth."""
        return max(self.measurement.cell, 0.05 * self.training)

    def group(self, size: float) -> float:
        """Of all cells of one seed and size, with the retrained model."""
        count = len(cells(self.config, size, 0)) - len(BASELINES)
        return self.training + count * self.cell

    @property
    def total(self) -> float:
        """Seconds of the whole comparison."""
        seeds = self.config.seeds
        methods = len(self.config.methods)
        groups = sum(self.group(size) for size in self.config.sizes)

        # One more than the seeds, for the tuning federation.
        originals = (1 + seeds) * (1 + self.config.run.experiment.folds.trainings) * self.training

        return originals + methods * self.tuning + seeds * groups
