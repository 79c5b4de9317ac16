"""What a study may say of an aim: shown, not shown or refuted, by an equivalence test over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import stats

Reading = Literal["shown", "not shown", "refuted"]
LEVEL = 0.90
"""Of the interval: two one-sided tests at 5 % (Schuirmann 1987, doi 10.1007/BF01068419)."""


def interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float, float]:
    """Mean and interval by Student's t over independent values, such as seeds; unbounded for a single one."""
    array = np.asarray(values, dtype=float)
    mean = float(array.mean())
    if len(array) < 2:
        return mean, -np.inf, np.inf
    half = float(stats.t.ppf((1 + level) / 2, len(array) - 1) * array.std(ddof=1) / len(array) ** 0.5)

    return mean, mean - half, mean + half


def reading(values: Sequence[float], bound: float) -> Reading:
    """Whether the mean is shown to lie within ±`bound`, shown to lie outside, or neither."""
    _, low, high = interval(values)
    return read_interval(low, high, -bound, bound)


def reading_below(values: Sequence[float], bound: float) -> Reading:
    """Whether the mean is shown to be at most `bound`, shown to be more, or neither."""
    _, low, high = interval(values)
    return read_interval(low, high, -np.inf, bound)


def read_interval(low: float, high: float, least: float, most: float) -> Reading:
    """By a 90 % interval and the range that it is to lie in."""
    # The whole interval must lie inside: that a difference is not significant shows nothing.
    if least <= low and high <= most:
        return "shown"
    return "refuted" if low > most or high < least else "not shown"
