"""Resampled weights of forget patients and matched controls: bootstrap for intervals, permutation for tests.

Both keep the label mix. Each is drawn once per audit and serves all branches and statistics, so that a thousand
resamples are a few matrix operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.evaluation.matching import Match

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Resamples:
    """Weights over the pooled patients (forget first, then controls), `[rows, f + c]`, zero where not in the sample."""

    forget: Floats
    control: Floats


def observed(match: Match) -> Resamples:
    """The weights as they are: one row."""
    f, c = len(match.forget), len(match.control)
    forget = np.concatenate((np.full(f, 1.0 / f), np.zeros(c)))
    return Resamples(forget[None], np.concatenate((np.zeros(f), match.weights))[None])


def bootstrap(match: Match, rows: int, rng: np.random.Generator) -> Resamples:
    """Draw patients with replacement, forget and controls independently, within labels.

    A stratum of m gives m - 1 draws, each weighing m / (m - 1): the variance is then unbiased also for small strata
    (Rao and Wu 1988, doi:10.1080/01621459.1988.10478591). Labels with a single patient are drawn as one stratum.
    """
    forget = _draws(match.forget_labels, rows, rng)
    control = _draws(match.control_labels, rows, rng) * match.weights
    zeros_f, zeros_c = np.zeros_like(forget), np.zeros_like(control)
    return Resamples(np.hstack((forget, zeros_c)), np.hstack((zeros_f, control)))


def permute(match: Match, rows: int, rng: np.random.Generator) -> Resamples:
    """Shuffle who was forgotten within each label: the null hypothesis that nobody can tell."""
    labels = np.concatenate((match.forget_labels, match.control_labels))
    f, n = len(match.forget), len(labels)
    weight = {int(label): w for label, w in zip(match.control_labels, match.weights, strict=True)}
    control_weight = np.array([weight[int(label)] for label in labels])
    # Sorting by label first leaves each label's block in place; the random part shuffles inside it.
    slots = np.argsort(labels, kind="stable")
    shuffled = np.argsort(labels + rng.random((rows, n)), axis=1)
    member = np.zeros((rows, n))
    np.put_along_axis(member, shuffled, np.broadcast_to((slots < f).astype(np.float64), (rows, n)), axis=1)
    return Resamples(member, (1.0 - member) * control_weight)


def _draws(labels: Ints, rows: int, rng: np.random.Generator) -> Floats:
    counts = np.zeros((rows, len(labels)))
    for members in _strata(labels):
        m = len(members)
        drawn = rng.multinomial(m - 1, np.full(m, 1.0 / m), size=rows) if m > 1 else np.ones((rows, 1))
        counts[:, members] = drawn * (m / (m - 1) if m > 1 else 1.0)
    return counts


def _strata(labels: Ints) -> list[Ints]:
    """Rows by label; the labels of one patient join to a stratum, and a last single one joins the largest."""
    by_label = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    strata = [rows for rows in by_label if len(rows) > 1]
    single = [rows for rows in by_label if len(rows) == 1]
    if len(single) > 1 or (single and not strata):
        strata.append(np.concatenate(single))
    elif single:
        strata.sort(key=len)
        strata[-1] = np.concatenate((strata[-1], single[0]))
    return strata
