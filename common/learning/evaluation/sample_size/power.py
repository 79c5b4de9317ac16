"""What the decision rule can tell with how many patients.

`python -m common.learning.evaluation.sample_size.power` prints the tables.

Losses are made up: those of never-seen patients are standard normal, and forget patients either all lie a little
lower (`shift`) or a few lie below every never-seen patient and the others do not differ (`few`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from common.learning.config import DecisionConfig
from common.learning.evaluation.auc_variance import least_variance
from common.learning.evaluation.membership import MIN_PATIENTS

Floats = NDArray[np.float64]
Shape = Literal["shift", "few"]
SHAPES: tuple[Shape, ...] = ("shift", "few")
SIZES = (5, 10, 20, 40, 80, 160, 320)
POWER = 0.80


@dataclass(frozen=True, slots=True)
class Estimates:
    """AUC and standard error `[draws]` of simulated audits with `patients` in either group."""

    auc: Floats
    error: Floats
    patients: int

    def within(self, level: float, low: float, high: float) -> NDArray[np.bool_]:
        """Does the interval of `merge.interval` lie in `[low, high]`, per draw?"""
        half = self.half_width(level)
        return np.asarray((self.auc - half >= low) & (self.auc + half <= high))

    def outside(self, level: float, low: float, high: float) -> NDArray[np.bool_]:
        """Does the interval lie wholly below `low` or above `high`, per draw?"""
        half = self.half_width(level)
        return np.asarray((self.auc - half > high) | (self.auc + half < low))

    def half_width(self, level: float) -> Floats:
        """Half of the interval's width, before it is cut to [0, 1]."""
        return np.asarray(stats.t.ppf((1 + level) / 2, self.patients - 1) * self.error)


def simulate(true_auc: float, patients: int, shape: Shape, draws: int, rng: np.random.Generator) -> Estimates:
    """Audits of a model whose loss AUC is `true_auc`, with as many never-seen as forget patients."""
    member, control = rng.standard_normal((2, draws, patients))

    if shape == "shift":
        member = member - np.sqrt(2.0) * stats.norm.ppf(true_auc)
    else:
        # Of a share f at the far end and the others at .5, the AUC is f + (1 - f)/2, or (1 - f)/2 at the other end.
        far = rng.random(member.shape) < abs(2 * true_auc - 1)
        member = np.where(far, member - 100.0 * np.sign(true_auc - 0.5), member)

    return estimates(member, control)


def estimates(member: Floats, control: Floats) -> Estimates:
    """`loss_auc` and `bootstrap_variance` in the limit of endless resamples, for untied losses `[draws, n]`.

    Of a mean over pairs h_ij drawn again in both groups, the variance is that of the rows' means / n, that of the
    columns' means / n, and what is left of that of h / n^2 (Hoeffding's decomposition).
    """
    n = member.shape[1]
    ranks = np.argsort(np.argsort(np.concatenate([member, control], axis=1), axis=1), axis=1)
    # A rank among all less the rank within the own group is the number of the other group below.
    rows = 1.0 - (np.sort(ranks[:, :n], axis=1) - np.arange(n)) / n
    columns = (np.sort(ranks[:, n:], axis=1) - np.arange(n)) / n
    auc = rows.mean(axis=1)
    by_row = rows.var(axis=1)
    by_column = columns.var(axis=1)
    rest = auc * (1 - auc) - by_row - by_column
    variance = (by_row / n + by_column / n + rest / n**2) * n / (n - 1)

    return Estimates(auc, np.sqrt(np.maximum(variance, least_variance(auc, n, n))), n)


def smallest_detected(patients: int, draws: int, rng: np.random.Generator, margin: float = 0.0) -> float | None:
    """Smallest true |AUC - .5| of which a 95 % interval lies outside .5 +- margin in 80 % of audits; None if none is.

    The same draws are used for every difference, so that the share rises with it and halving the range finds it.
    """
    seed = int(rng.integers(2**32))
    low = 0.0
    high = 0.499

    for _ in range(12):
        middle = (low + high) / 2
        audits = simulate(0.5 + middle, patients, "shift", draws, np.random.default_rng(seed))

        if audits.outside(0.95, 0.5 - margin, 0.5 + margin).mean() >= POWER:
            high = middle
        else:
            low = middle

    # The upper end never moved: not even the largest difference is told.
    return None if high == 0.499 else high


def least_half_width(groups: Sequence[tuple[int, int]]) -> float | None:
    """Half-width of the 90 % interval at an AUC of .5, the least that patients so few can give.

    `groups` are the patients to forget and the never-seen ones at each site, merged as `merge_membership` does. None
    where those of a site cannot be measured at all.
    """
    if not groups or any(min(group) < MIN_PATIENTS for group in groups):
        return None
    forget = sum(n for n, _ in groups)
    variance = sum((n / forget) ** 2 * least_variance(0.5, n, m) for n, m in groups)
    freedom = min(forget, sum(m for _, m in groups)) - 1
    half: float = float(stats.t.ppf(0.95, freedom)) * variance**0.5

    return half


def power_table(draws: int, rng: np.random.Generator, sizes: tuple[int, ...] = SIZES) -> str:
    """Per number of patients: width of the interval, smallest differences, and what a model that forgot is told."""
    margin = DecisionConfig().auc_margin
    lines = [
        "| Patients per group | Half-width, 90 % interval | Detectable distance from .5 "
        "| Detectable distance for a rejection | Forgotten: accepted | Forgotten: rejected |",
        "|---:|---:|---:|---:|---:|---:|",
    ]

    for n in sizes:
        fair = simulate(0.5, n, "shift", draws, rng)
        differences = [smallest_detected(n, draws // 4, rng, width) for width in (0.0, margin)]
        cells = " | ".join("none" if value is None else f"{value:.2f}" for value in differences)
        acceptance = fair.within(0.90, 0.5 - margin, 0.5 + margin).mean()
        rejection = fair.outside(0.95, 0.5 - margin, 0.5 + margin).mean()
        half = fair.half_width(0.90).mean()
        lines.append(f"| {n} | {half:.2f} | {cells} | {acceptance:.1%} | {rejection:.1%} |")

    return "\n".join(lines)


def margin_table(draws: int, rng: np.random.Generator, sizes: tuple[int, ...] = SIZES) -> str:
    """Share accepted of models that remember, or over-forgot, by exactly the margin; and coverage of the intervals."""
    margin = DecisionConfig().auc_margin
    cases = [(0.5 + sign * margin, shape) for shape in SHAPES for sign in (1, -1)]
    heads = [f"accepted, {auc:.2f} {shape}" for auc, shape in cases]
    lines = [
        f"| Patients per group | {' | '.join(heads)} | Coverage, 90 % at .50 | Coverage, 90 % at {0.5 + margin:.2f} |",
        "|---:|" + "---:|" * (len(cases) + 2),
    ]

    for n in sizes:
        shares = [
            simulate(auc, n, shape, draws, rng).within(0.90, 0.5 - margin, 0.5 + margin).mean() for auc, shape in cases
        ]
        coverage = [
            1 - simulate(auc, n, "shift", draws, rng).outside(0.90, auc, auc).mean() for auc in (0.5, cases[0][0])
        ]
        lines.append(f"| {n} | " + " | ".join(f"{value:.1%}" for value in (*shares, *coverage)) + " |")

    return "\n".join(lines)


def main(draws: int = 20_000, seed: int = 0) -> None:
    """Print both tables as markdown."""
    rng = np.random.default_rng(seed)
    sys.stdout.write(f"{power_table(draws, rng)}\n\n{margin_table(draws, rng)}\n")


if __name__ == "__main__":
    main()
