"""U-LiRA: tells unlearned patients from those never trained on (Hayes et al. 2024, arXiv 2403.01218).

Of LiRA (`lira.py`) it has the Gaussians; the two worlds are *trained on, then unlearned* and *never trained on*. The
same unlearning is run on many models, so that the attack knows what it leaves of each patient. Scores are high for
unlearned ones. The attack is scored on models that it was not fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.learning.evaluation.attacks.lira import fit_gaussians

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def u_lira(target: Floats, confidence: Floats, unlearned: Bools, never: Bools) -> Floats:
    """`log N(phi; mu_u, sigma_u) - log N(phi; mu_r, sigma_r)`, in nats; NaN without models of both worlds.

    Args:
        target: confidence of the audited models, `[..., n]`.
        confidence: of the models to fit on, `[models, n]`.
        unlearned: `[models, n]`, where the patient was trained on and then unlearned.
        never: `[models, n]`, where the patient was never trained on. A model may be neither, for patients it retains.
    """
    unlearned_fit = fit_gaussians(confidence, unlearned)
    never_fit = fit_gaussians(confidence, never)
    return unlearned_fit.log_density(target) - never_fit.log_density(target)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """U-LiRA on models held out from fitting.

    Attributes:
        scores: `[models, n]`, NaN for pairs of neither world.
        by_patient: `[n]`, P(of this patient a model that unlearned scores above one that never trained on, both of
            one fold); NaN without such models. .5 cannot tell.
        auc: its mean over patients.
        interval: 95 %, from drawing patients again. What all patients of one model have in common is not in it: with
            few models it is too narrow.
        pairs: scored pairs of patient and model.
    """

    scores: Floats
    by_patient: Floats
    auc: float
    interval: tuple[float, float]
    pairs: int

    def most_leaking(self, count: int) -> NDArray[np.int64]:
        """Positions of the patients that are told best, best first."""
        rows = np.flatnonzero(~np.isnan(self.by_patient))
        return rows[np.argsort(-self.by_patient[rows], kind="stable")][:count].astype(np.int64)


def u_lira_held_out(
    confidence: Floats, unlearned: Bools, never: Bools, *, folds: int, draws: int, rng: np.random.Generator
) -> HeldOut:
    """Fit on all folds of models but one, score that one, in turn; arguments as of `u_lira`.

    Only scores of one patient in one fold are compared. A score draws the mean of the other folds the other way, and
    is lower where fewer of its own kind were left to fit on: across folds or patients the AUC of a perfect unlearning
    would lie below .5.

    Raises:
        ValueError: no patient has models of both worlds in any fold.
    """
    models, patients = confidence.shape
    scores = np.full(confidence.shape, np.nan)
    fold = np.arange(models) * folds // models
    for k in range(folds):
        rest = (fold != k)[:, None]
        scores[fold == k] = u_lira(confidence[fold == k], confidence, unlearned & rest, never & rest)

    scores[~(unlearned | never)] = np.nan
    has_score = ~np.isnan(scores)
    by_patient = np.array(
        [
            _wins(scores[:, n], unlearned[:, n] & has_score[:, n], never[:, n] & has_score[:, n], fold)
            for n in range(patients)
        ]
    )
    aucs = by_patient[~np.isnan(by_patient)]
    if not len(aucs):
        raise ValueError("no patient has models of both worlds in any fold")
    # Patients are drawn again, not pairs: the pairs of one patient are not independent.
    again = rng.choice(aucs, (draws, len(aucs))).mean(axis=1)
    low, high = np.quantile(again, [0.025, 0.975])

    return HeldOut(scores, by_patient, float(aucs.mean()), (float(low), float(high)), int(has_score.sum()))


def _wins(scores: Floats, ours: Bools, theirs: Bools, fold: NDArray[np.int64]) -> float:
    """Share of pairs within a fold in which ours is higher, ties one half; NaN without pairs."""
    # Scores of two folds come from different fits and cannot be compared.
    same = fold[ours][:, None] == fold[theirs][None, :]
    our_scores = scores[ours][:, None]
    their_scores = scores[theirs][None, :]
    wins = (our_scores > their_scores) + 0.5 * (our_scores == their_scores)

    return float(wins[same].mean()) if same.any() else float("nan")
