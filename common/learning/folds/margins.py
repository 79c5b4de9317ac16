"""What fold models say about patients whom they never saw, and where that puts a patient among never-seen ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NO_FOLD = -1
LEAST_CONTROLS = 2
"""A standard deviation needs two."""


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Margins under the fold models of one family; see `Scores.margin`. Rows never leave a site.

    Attributes:
        fold: `[n]`, the fold of each patient, whose model never saw them; `NO_FOLD` without a score.
        margins: `[3, n]`, the patients' margins under the model of their fold; NaN without a score.
        controls: `[folds, 3, c]`, margins of never-seen patients under each model; NaN without a score.
    """

    fold: Ints
    margins: Floats
    controls: Floats

    def known(self) -> NDArray[np.bool_]:
        """Which patients have a score, and enough controls under the same model to compare it with, `[n]`."""
        enough = np.isfinite(self.controls).all(axis=1).sum(axis=1) >= LEAST_CONTROLS
        has_scores = np.zeros(len(self.fold), dtype=np.bool_)
        for at, fold in enumerate(self.fold):
            has_scores[at] = fold != NO_FOLD and bool(enough[fold]) and bool(np.isfinite(self.margins[:, at]).all())

        return has_scores

    def of(self, rows: NDArray[np.bool_] | Ints) -> OutOfFold:
        """The same for some of the patients."""
        return OutOfFold(self.fold[rows], self.margins[:, rows], self.controls)


@dataclass(frozen=True, slots=True)
class Standings:
    """Where each patient stands by the model of their fold; NaN where that is not known.

    Attributes:
        raw: `[3, n]`, margins under that model.
        scaled: `[3, n]`, the same in standard deviations above the mean of never-seen patients under that model.
    """

    raw: Floats
    scaled: Floats

    def known(self) -> NDArray[np.bool_]:
        """Which patients have one, `[n]`."""
        return np.asarray(np.isfinite(self.scaled).all(axis=0))


def standings(scores: OutOfFold) -> Standings:
    """Standings of all patients. All three branches are by the same model.

    A model under which all never-seen patients have one margin has no scale: the patients stand at its mean.
    """
    has_scores = scores.known()
    raw = np.where(has_scores, scores.margins, np.nan)
    standard_scores = np.full_like(raw, np.nan)

    for fold in np.unique(scores.fold[has_scores]):
        controls = scores.controls[fold]
        # A control without a score by this model would make mean and spread NaN.
        controls = controls[:, np.isfinite(controls).all(axis=0)]
        centre = controls.mean(axis=1, keepdims=True)
        spread = controls.std(axis=1, keepdims=True)
        rows = has_scores & (scores.fold == fold)
        above = raw[:, rows] - centre
        standard_scores[:, rows] = np.divide(above, spread, out=np.zeros_like(above), where=spread > 0)

    return Standings(raw, standard_scores)


def scaled_targets(standing: Floats, calibration: Floats) -> Floats:
    """Target margins `[3, n]` that stand among `calibration` `[3, c]` as the patients do by a model without them.

        target = mean(n) + (r - mean(f)) * sd(n) / sd(f)

    with r the patient's margin out of fold, f those of never-seen patients under the same fold model (both in
    `standing`, see `Standings.scaled`), and n those of never-seen patients under the current model. It is a draw from
    what a model says that never saw the patient, and no mean: means are too narrow, which an attacker sees.
    """
    centre = calibration.mean(axis=1, keepdims=True)
    spread = calibration.std(axis=1, keepdims=True)
    targets: Floats = centre + standing * spread

    return targets
