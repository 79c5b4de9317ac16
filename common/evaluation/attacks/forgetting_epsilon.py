"""Forgetting quality of the NeurIPS 2023 unlearning competition (Triantafillou et al. 2024, arXiv 2406.09073).

For each patient: how well can many unlearned models be told from many retrained ones by their confidence? The answer
is an epsilon as of differential privacy, in nats: 0 cannot be told, the higher the more is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BIN = 0.5
"""Width of the competition's bins of epsilon."""


@dataclass(frozen=True, slots=True)
class ForgettingEpsilon:
    """Epsilon of each patient `[n]`, and what so few models can tell at all.

    Attributes:
        patients: `[n]`, in [0, cap].
        cap: the largest epsilon that the numbers of models resolve; one that is reached means *at least so much*.
        models: of each kind.
    """

    patients: Floats
    cap: float
    models: tuple[int, int]

    @property
    def score(self) -> float:
        """The competition's F: mean over patients of `2^-k` for the k-th bin; 1 is the best."""
        return float(np.mean(2.0 ** -np.floor(self.patients / BIN)))

    @property
    def text(self) -> str:
        """In one line."""
        unlearned, retrained = self.models
        return (
            f"forgetting epsilon: median {np.median(self.patients):.2f}, 90 % of patients below "
            f"{np.quantile(self.patients, 0.9):.2f}, score {self.score:.3f}; {unlearned} unlearned and {retrained} "
            f"retrained models resolve no more than {self.cap:.2f}"
        )


def forgetting_epsilon(unlearned: Floats, retrained: Floats, delta: float = 1e-5) -> ForgettingEpsilon:
    """The largest epsilon that any rule of one or two thresholds on the confidence shows, for each patient.

        epsilon = max over rules of max(log(1 - delta - FPR) - log FNR, log(1 - delta - FNR) - log FPR)

    FPR is the share of retrained models that a rule calls unlearned, FNR that of unlearned ones it calls retrained.
    As in the paper a rule with one rate 0 says nothing, and one with both 0 tells everything: epsilon is the cap. The
    best rule is chosen on the models that it is scored on, so equal distributions give more than 0; compare with the
    epsilon between two halves of the retrained models.

    Args:
        unlearned: confidence of unlearned models, `[u, n]`.
        retrained: of retrained ones, `[r, n]`.
        delta: of (epsilon, delta)-unlearning.
    """
    u, r = len(unlearned), len(retrained)
    cap = resolvable_epsilon(u, r, delta)
    found = [_epsilon(unlearned[:, n], retrained[:, n], delta) for n in range(unlearned.shape[1])]
    return ForgettingEpsilon(np.clip(np.array(found), 0.0, cap), cap, (u, r))


def resolvable_epsilon(unlearned: int, retrained: int, delta: float = 1e-5) -> float:
    """The epsilon of a rule that errs on one model of each kind, the fewest that a rate above 0 can rest on."""
    fnr, fpr = 1 / unlearned, 1 / retrained
    return float(_of_rates(np.array([fpr]), np.array([fnr]), delta)[0])


def _epsilon(ours: Floats, theirs: Floats, delta: float) -> float:
    """Over all intervals between values: inside is called unlearned, or outside is."""
    values = np.unique(np.concatenate([ours, theirs]))
    below = np.concatenate([[0.0], np.searchsorted(np.sort(ours), values, side="right") / len(ours)])
    below_theirs = np.concatenate([[0.0], np.searchsorted(np.sort(theirs), values, side="right") / len(theirs)])
    start, end = np.triu_indices(len(below), k=1)
    hit, false = below[end] - below[start], below_theirs[end] - below_theirs[start]
    found = np.concatenate([_of_rates(false, 1 - hit, delta), _of_rates(1 - false, hit, delta)])
    return float(found.max())


def _of_rates(fpr: Floats, fnr: Floats, delta: float) -> Floats:
    """Epsilon of rules with these rates; infinite where both are 0, and 0 where one is."""
    fpr, fnr = np.where(fpr < 1e-12, 0.0, fpr), np.where(fnr < 1e-12, 0.0, fnr)
    usable = (fpr > 0) & (fnr > 0)
    a, b = np.where(usable, fpr, 0.5), np.where(usable, fnr, 0.5)
    tiny = np.finfo(float).tiny
    one = np.log(np.maximum(1 - delta - a, tiny)) - np.log(b)
    other = np.log(np.maximum(1 - delta - b, tiny)) - np.log(a)
    best = np.where(usable, np.maximum(one, other), 0.0)
    return np.where((fpr == 0) & (fnr == 0), np.inf, best)
