"""The never-seen level: how a forget patient should look to the model, by the site's own calibration patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.learning.device import derive_seed
from common.learning.evaluation.matching import control_weights, majority_labels, patient_means
from common.learning.evaluation.scores import Scores
from common.learning.folds.margins import Standings, scaled_targets


def true_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit-scaled confidence `[3, batch]`: true logit minus logsumexp of the others (Carlini et al. 2022, eq. 3).

    Unlike that of the cross-entropy, its gradient does not vanish where the model is confident.
    """
    index = labels[None, :, None].expand(len(logits), -1, 1)
    others = logits.scatter(2, index, float("-inf")).logsumexp(dim=2)
    return logits.gather(2, index)[..., 0] - others


def patient_mean(values: Tensor, patients: Tensor, count: int) -> Tensor:
    """Mean over each patient's studies: `[3, batch]` and numbers `[batch]` to `[3, count]`."""
    total = values.new_zeros((len(values), count)).index_add_(1, patients, values)
    studies = values.new_zeros(count).index_add_(0, patients, torch.ones_like(patients, dtype=values.dtype))
    return total / studies


def weighted_quantile(
    values: NDArray[np.float64], weights: NDArray[np.float64], levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Quantiles of a weighted sample at `levels` in (0, 1), linear between the midpoints of the steps."""
    order = np.argsort(values, kind="stable")
    order = order[weights[order] > 0]  # a value without weight would still be an interpolation point
    share = weights[order] / weights.sum()

    return np.interp(levels, np.cumsum(share) - share / 2, values[order])


def margin_targets(
    ranking: NDArray[np.float64],
    forget_labels: NDArray[np.int64],
    calibration: Scores,
    within: float,
) -> NDArray[np.float64]:
    """Target margin of each forget patient on each branch by rank alone, `[3, patients]`.

    The patient at rank r of n (by `ranking`, `[3, patients]`, the frozen model's margin on noisy copies) gets the
    (r + `within`)/n quantile of the calibration patients' margins, these weighted to the forget patients' label mix.
    `within`, in (0, 1), is drawn: with 1/2 everybody who revokes alone would be moved to the median. One draw serves
    all (systematic sampling), so that the targets of several patients spread as never-seen margins do.
    """
    margins = patient_means(calibration.margin, calibration.patients)
    weights = control_weights(forget_labels, majority_labels(calibration))
    count = ranking.shape[1]
    # The frozen model's order of the patients is kept: the best remembered gets the highest target.
    # The second `argsort` turns an order into ranks; stable, so that ties fall alike on every machine.
    ranks = np.argsort(np.argsort(ranking, axis=1, kind="stable"), axis=1, kind="stable")
    levels = (ranks + within) / count

    return np.stack([weighted_quantile(m, weights, q) for m, q in zip(margins, levels, strict=True)])


def drawn_level(seed: int) -> float:
    """Where within their ranks all patients' quantiles lie: never 0 or 1, the most extreme patient's own margin."""
    return float(np.random.default_rng(derive_seed(seed, "quantile")).uniform(0.02, 0.98))


@dataclass(frozen=True, slots=True)
class Aims:
    """The targets of one unlearning: by fold models where patients have a standing, else a random quantile.

    Attributes:
        ranking: `[3, patients]`, margins of the frozen model on noisy copies.
        labels: `[patients]`, the patients' commonest labels.
        standings: of the patients; None without fold models.
        how: `unlearn.fold_targets`.
        within: in (0, 1), drawn once, so that a renewal follows the model and not the dice.
    """

    ranking: NDArray[np.float64]
    labels: NDArray[np.int64]
    standings: Standings | None
    how: Literal["scaled", "raw", "mean", "off"]
    within: float

    def at(self, calibration: Scores) -> NDArray[np.float64]:
        """Targets `[3, patients]` by the current model's scores of the calibration patients."""
        targets = np.full_like(self.ranking, np.nan)
        # Whatever a patient's fold model does not say stays NaN, and is filled by rank below.
        if self.standings is not None and self.how == "raw":
            targets = self.standings.raw.copy()
        elif self.standings is not None and self.how != "off":
            targets = scaled_targets(self.standings.scaled, patient_means(calibration.margin, calibration.patients))

        # E.g. patients who joined after the fold models were trained, or whose site was away then.
        unknown = ~np.isfinite(targets).all(axis=0)
        if unknown.any():
            targets[:, unknown] = margin_targets(
                self.ranking[:, unknown], self.labels[unknown], calibration, self.within
            )
        return targets
