"""Membership inference by the loss: a member is expected to have the lower loss (Yeom et al. 2018)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.learning.evaluation.auc_variance import least_variance

Floats = NDArray[np.float64]


def loss_auc(member: Floats, control: Floats, member_weights: Floats, control_weights: Floats) -> Floats:
    """Weighted P(member < control) + P(equal)/2: .5 cannot tell, above remembers, below has over-forgotten.

    Args:
        member: losses `[m]`, of the patients to be forgotten.
        control: losses `[c]`, of never-seen patients.
        member_weights: `[..., m]`; leading axes are resamples.
        control_weights: `[..., c]`.

    Returns:
        `[...]` in [0, 1].
    """
    # All pairs, as resamples only weigh them anew; `score_auc` avoids the matrix.
    wins = (member[:, None] < control[None, :]) + 0.5 * (member[:, None] == control[None, :])
    member_shares = member_weights / member_weights.sum(axis=-1, keepdims=True)
    control_shares = control_weights / control_weights.sum(axis=-1, keepdims=True)

    return np.asarray(np.einsum("...m,mc,...c->...", member_shares, wins, control_shares, optimize=True))


def score_auc(
    member: Floats, control: Floats, member_weights: Floats | None = None, control_weights: Floats | None = None
) -> float:
    """The same of scores that are *high* for members: weighted P(member > control) + P(equal)/2.

    By ranks, so that it takes tens of thousands of scores; without weights all count the same.
    """
    ours = np.ones(len(member)) if member_weights is None else member_weights
    theirs = np.ones(len(control)) if control_weights is None else control_weights
    order = np.argsort(control, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(theirs[order])])
    low = below[np.searchsorted(control[order], member, side="left")]
    upto = below[np.searchsorted(control[order], member, side="right")]

    return float(ours @ (low + upto) / 2 / (ours.sum() * theirs.sum()))


def bootstrap_variance(
    member: Floats, control: Floats, control_weights: Floats, draws: int, rng: np.random.Generator
) -> float:
    """Variance of `loss_auc` when patients of both groups are drawn again, with replacement.

    Never under `least_variance`, in which the weighted controls count as their effective number, 1 / sum of w^2.
    """
    m = len(member)
    c = len(control)
    member_draws = rng.multinomial(m, np.full(m, 1.0 / m), size=draws).astype(float)
    control_draws = rng.multinomial(c, np.full(c, 1.0 / c), size=draws) * control_weights
    # A resample may hold only controls without weight; it then counts all of them.
    control_draws[control_draws.sum(axis=1) == 0] = control_weights
    spread = float(np.var(loss_auc(member, control, member_draws, control_draws), ddof=1))
    # Resampling n values understates a variance by (n - 1)/n; with five patients that is a fifth.
    smaller = max(2, min(m, c))
    auc = float(loss_auc(member, control, np.ones(m), control_weights))
    effective = float(control_weights.sum() ** 2 / (control_weights**2).sum())

    return max(spread * smaller / (smaller - 1), least_variance(auc, m, effective))
