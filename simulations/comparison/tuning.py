"""How a method's settings are chosen: which are tried, and what they are judged by."""

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
    """One setting that was tried: its mean score over the draws, lower is better, and what it cost in all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    setting: Setting
    score: float
    forward_units: float


class Tuned(BaseModel):
    """All of one method's tuning."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: str
    allowed: float
    """Forward units that each method could spend: none is begun beyond them."""
    trials: tuple[Trial, ...]
    digest: str = ""

    @property
    def chosen(self) -> Setting:
        """Of the lowest score, the first that was tried if equal."""
        return min(self.trials, key=lambda trial: trial.score).setting


def settings_to_try(config: TuningConfig, method: str) -> list[Setting]:
    """The preset itself, then others in an order that depends on the tuning seed alone, `trials` at most."""
    factors = config.factors.get(method, config.factors.get(EVERY, {}))
    every = [dict(zip(factors, values, strict=True)) for values in product(*factors.values())]
    preset = dict.fromkeys(factors, 1.0)
    others = [setting for setting in every if setting != preset]
    order = np.random.default_rng([config.seed, 5]).permutation(len(others))

    return [preset, *(others[at] for at in order)][: config.trials]


def with_setting(experiment: ExperimentConfig, setting: Mapping[str, float]) -> ExperimentConfig:
    """Multiply the settings named, as `unlearn.lr`; whole numbers stay whole and at least 1.

    Raises:
        ConfigError: there is no such setting, or it may not have that value.
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
    """The split by which settings are judged: who would be audited or tested in the tuning federation calibrates.

    Methods are handed the calibration patients, and would be judged by what they were fitted to. Nothing is audited or
    tested in that federation, and nobody of it is in a comparison.
    """
    judging = {Subset.AUDIT, Subset.TEST}
    subsets = {p: s for p, s in split.subset_of.items() if s is not Subset.CALIBRATION}
    return Split({p: Subset.CALIBRATION if s in judging else s for p, s in subsets.items()})


def tuning_score(after: SelectionFigures, before: SelectionFigures) -> float:
    """How far a model is from having forgotten and lost nothing; lower is better.

    The mean over branches of |AUC - .5| of forget patients against the `judges`, and what validation AUC (fused) was
    lost. The retrained model is not in it.
    """
    gaps = [abs(branch.auc - 0.5) for branch in after.membership.values() if branch.auc is not None]
    was, now = (macro_auc(figures.validation["fused"]) for figures in (before, after))
    loss = max(0.0, was - now) if was is not None and now is not None else 0.0

    return (sum(gaps) / len(gaps) if gaps else 0.5) + loss
