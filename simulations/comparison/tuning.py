"""Choice of a method's settings: which are tried, and how they are scored."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from pydantic import BaseModel, ConfigDict

from common.learning.config import ExperimentConfig
from common.learning.evaluation.figures import SelectionFigures
from common.learning.evaluation.metrics import macro_auc
from common.learning.records import Split, Subset
from common.settings import parse
from simulations.comparison.settings import EVERY, TuningConfig

Setting = dict[str, float]
"""Factors on the values of a method's preset."""


class Trial(BaseModel):
    """A setting, its mean score over the draws (lower is better), and its total cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    setting: Setting
    score: float
    forward_units: float


class Tuned(BaseModel):
    """Result of tuning a method."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: str
    allowed: float
    """Budget of the method in forward units; no trial starts beyond it."""
    trials: tuple[Trial, ...]
    digest: str = ""

    @property
    def chosen(self) -> Setting:
        """The setting with the lowest score; the first one on a tie."""
        return min(self.trials, key=lambda trial: trial.score).setting


def settings_to_try(config: TuningConfig, method: str) -> list[Setting]:
    """The preset, then at most `trials - 1` others, in an order that depends on the tuning seed only."""
    factors = config.factors.get(method, config.factors.get(EVERY, {}))
    every = [dict(zip(factors, values, strict=True)) for values in product(*factors.values())]
    preset = dict.fromkeys(factors, 1.0)
    others = [setting for setting in every if setting != preset]
    # Drawn, not in the order of the table: a small budget would try one factor's values only.
    order = np.random.default_rng([config.seed, 5]).permutation(len(others))

    # The preset first: whatever the budget, a method is never left without a setting.
    return [preset, *(others[at] for at in order)][: config.trials]


def with_setting(experiment: ExperimentConfig, setting: Mapping[str, float]) -> ExperimentConfig:
    """Multiply settings, e.g. `unlearn.lr`; whole numbers stay whole and at least 1.

    Raises:
        ConfigError: the setting is unknown, or its value is out of range.
    """
    values = experiment.model_dump(mode="json")

    for path, factor in setting.items():
        *parents, last = path.split(".")
        node = values
        for part in parents:
            node = node[part] if part in node else node.setdefault(part, {})
        before = node.get(last, 1.0)
        whole = isinstance(before, int) and not isinstance(before, bool)
        node[last] = max(1, round(before * factor)) if whole else before * factor

    return parse(ExperimentConfig, values, "tuning.factors")


def judges(split: Split) -> Split:
    """The split that scores settings: audit and test patients of the tuning federation become calibration patients.

    Methods are fitted on the calibration patients, which therefore cannot score them. Audit and test patients are free:
    the tuning federation is neither audited nor tested, and its patients are in no comparison.
    """
    judging = {Subset.AUDIT, Subset.TEST}
    subsets = {p: s for p, s in split.subset_of.items() if s is not Subset.CALIBRATION}
    return Split({p: Subset.CALIBRATION if s in judging else s for p, s in subsets.items()})


def tuning_score(after: SelectionFigures, before: SelectionFigures) -> float:
    """Distance of a model from perfect forgetting without loss; lower is better.

    The mean over branches of |AUC - .5| of forget patients against the `judges`, plus the loss of validation AUC
    (fused). The retrained model has no influence.
    """
    gaps = [abs(branch.auc - 0.5) for branch in after.membership.values() if branch.auc is not None]
    was, now = (macro_auc(figures.validation["fused"]) for figures in (before, after))
    # A gain in validation AUC must not make up for what is still remembered.
    loss = max(0.0, was - now) if was is not None and now is not None else 0.0

    # No forget patient with an AUC is the worst score, not the best.
    return (sum(gaps) / len(gaps) if gaps else 0.5) + loss
