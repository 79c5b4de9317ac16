"""Forgetting quality of the NeurIPS 2023 unlearning competition (Triantafillou et al. 2024, arXiv 2406.09073).

For each patient: how well can many unlearned models be told from many retrained ones by their confidence? The answer
is an epsilon as in differential privacy, in nats: 0 means indistinguishable; higher values mean that more is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BIN = 0.5
"""Width of the competition's bins of epsilon."""


@dataclass(frozen=True, slots=True)
class ForgettingEpsilon:
    """Epsilon of each patient, and the limit of what so few models can tell.

    Attributes:
        patients: `[n]`, in [0, cap]; NaN for a patient without models of both kinds.
        caps: `[n]`, the largest value that the patient's models resolve; a value at the cap means *at least this*.
    """

    patients: Floats
    caps: Floats

    @property
    def score(self) -> float:
        """The competition's F: mean over patients of `2^-k` for the k-th bin; 1 is the best."""
        return float(np.nanmean(2.0 ** -np.floor(self.patients / BIN)))

    @property
    def text(self) -> str:
        """Summary in one line."""
        least = np.nanmin(self.caps)
        most = np.nanmax(self.caps)
        share = np.nanmean(np.where(np.isnan(self.patients), np.nan, self.patients >= self.caps))

        return (
            f"forgetting epsilon: median {np.nanmedian(self.patients):.2f}, score {self.score:.3f}; so many models "
            f"resolve no more than {least:.2f} to {most:.2f}, which {share:.0%} of patients reach"
        )


def forgetting_epsilon(confidence: Floats, unlearned: Bools, never: Bools, delta: float = 1e-5) -> ForgettingEpsilon:
    """The largest epsilon that any rule of one or two thresholds on the confidence shows, for each patient.

        epsilon = max over rules of max(log(1 - delta - FPR) - log FNR, log(1 - delta - FNR) - log FPR)

    FPR is the share of models without the patient that a rule calls unlearned, FNR that of unlearned ones that it calls
    the other. As in the paper a rule with one rate 0 says nothing, and one with both 0 tells everything: epsilon is
    the cap. The best rule is chosen on the models that it is scored on, so equal distributions give more than 0;
    compare with the epsilon between two halves of the models without the patient.

    Args:
        confidence: `[models, n]`.
        unlearned: `[models, n]`, where the patient was trained on and then unlearned.
        never: `[models, n]`, where the patient was never trained on.
        delta: of (epsilon, delta)-unlearning.
    """
    patients = confidence.shape[1]
    epsilons = np.full(patients, np.nan)
    caps = np.full(patients, np.nan)

    for n in range(patients):
        ours = confidence[unlearned[:, n], n]
        theirs = confidence[never[:, n], n]
        if len(ours) and len(theirs):
            caps[n] = resolvable_epsilon(len(ours), len(theirs), delta)
            epsilons[n] = np.clip(_epsilon(ours, theirs, delta), 0.0, caps[n])

    return ForgettingEpsilon(epsilons, caps)


def resolvable_epsilon(unlearned: int, never: int, delta: float = 1e-5) -> float:
    """The epsilon of a rule that errs on one model of each kind, the fewest that a rate above 0 can rest on."""
    return max(0.0, float(_of_rates(np.array([1 / never]), np.array([1 / unlearned]), delta)[0]))


def _epsilon(ours: Floats, theirs: Floats, delta: float) -> float:
    """Over all intervals between values: inside is called unlearned, or outside is."""
    values = np.unique(np.concatenate([ours, theirs]))
    below = np.concatenate([[0.0], np.searchsorted(np.sort(ours), values, side="right") / len(ours)])
    below_theirs = np.concatenate([[0.0], np.searchsorted(np.sort(theirs), values, side="right") / len(theirs)])
    start, end = np.triu_indices(len(below), k=1)
    hit = below[end] - below[start]
    false = below_theirs[end] - below_theirs[start]
    epsilons = np.concatenate([_of_rates(false, 1 - hit, delta), _of_rates(1 - false, hit, delta)])

    return float(epsilons.max())


def _of_rates(fpr: Floats, fnr: Floats, delta: float) -> Floats:
    """Epsilon of rules with these rates; infinite where both are 0, and 0 where one is."""
    # A difference of cumulated shares that should be 0 may be 1e-17, and its logarithm large.
    fpr = np.where(fpr < 1e-12, 0.0, fpr)
    fnr = np.where(fnr < 1e-12, 0.0, fnr)
    usable = (fpr > 0) & (fnr > 0)
    # Any rate above 0 will do: the result is thrown away below, and log(0) would warn.
    a = np.where(usable, fpr, 0.5)
    b = np.where(usable, fnr, 0.5)
    tiny = np.finfo(float).tiny
    one = np.log(np.maximum(1 - delta - a, tiny)) - np.log(b)
    other = np.log(np.maximum(1 - delta - b, tiny)) - np.log(a)
    best = np.where(usable, np.maximum(one, other), 0.0)

    return np.where((fpr == 0) & (fnr == 0), np.inf, best)
