"""What the whole rule can tell with how many patients: three branches, KS, and utility by paired equivalence.

`python -m common.learning.evaluation.sample_size.whole_power` prints the table, in a minute or two on one core.

Losses are normal, with a correlation of .5 between the branches of a patient. There are as many never-seen as forget
patients, and as many test patients, spread over four hospitals, half of them of the class that is judged. The model is
as useful as before: a test AUC of .80, and scores that correlate with those before as given.
"""

from __future__ import annotations

import sys

import numpy as np

from common.learning.config import DecisionConfig
from common.learning.evaluation.sample_size.power import Floats, estimates
from common.learning.evaluation.sample_size.utility_equivalence import Bools, paired_drop

SIZES = (20, 40, 80, 160, 240, 320)
NEEDED = 240
"""Least number of the table with which a model that forgot is accepted in 85 % of audits. No number gives 90 %: each of
three KS tests turns away 5 %."""
BRANCH_CORRELATION = 0.5
SCORE_CORRELATION = 0.95
HOSPITALS = 4
_Z = 1.645


def losses(shift: tuple[float, float, float], patients: int, draws: int, rng: np.random.Generator) -> Floats:
    """Losses `[2, 3, draws, patients]` of forget and never-seen patients; forget ones lie lower by `shift`."""
    common = rng.standard_normal((2, 1, draws, patients))
    own = rng.standard_normal((2, 3, draws, patients))
    values = np.sqrt(BRANCH_CORRELATION) * common + np.sqrt(1 - BRANCH_CORRELATION) * own
    values[0] -= np.asarray(shift)[:, None, None]

    return np.asarray(values)


def ks_distance(member: Floats, control: Floats) -> Floats:
    """Largest gap of the two empirical distributions, `[draws]`, of untied `[draws, n]`."""
    n = member.shape[1]
    order = np.argsort(np.concatenate([member, control], axis=1), axis=1)
    steps = np.where(order < n, 1, -1)

    return np.asarray(np.abs(np.cumsum(steps, axis=1)).max(axis=1) / n)


def useful(patients: int, draws: int, rng: np.random.Generator, tolerance: float) -> tuple[Bools, Bools]:
    """Whether utility is found to be kept, `[draws]`: by point estimates at each hospital, and by paired equivalence.

    The first is the rule of earlier versions.
    """
    size = max(4, patients // HOSPITALS)
    positive = np.arange(size) < size // 2
    apart = 2**0.5 * 0.8416  # AUC .80 of two normal distributions
    by_point = np.ones(draws, dtype=bool)
    by_equivalence = np.ones(draws, dtype=bool)

    for draw in range(draws):
        drops = []
        for _ in range(HOSPITALS):
            before = rng.standard_normal(size)
            noise = rng.standard_normal(size)
            after = SCORE_CORRELATION * before + (1 - SCORE_CORRELATION**2) ** 0.5 * noise
            drops.append(paired_drop(before + apart * positive, after + apart * positive, positive))
        by_point[draw] = all(one.drop <= tolerance for one in drops)
        mean = float(np.mean([one.drop for one in drops]))
        error = sum(one.variance for one in drops) ** 0.5 / HOSPITALS
        by_equivalence[draw] = mean + _Z * error <= tolerance

    return by_point, by_equivalence


def row(patients: int, draws: int, rng: np.random.Generator) -> tuple[float, ...]:
    """Shares of audits of a model that forgot which are accepted, each condition added to those before."""
    config = DecisionConfig()
    low, high = 0.5 - config.auc_margin, 0.5 + config.auc_margin
    samples = losses((0.0, 0.0, 0.0), patients, draws, rng)
    within = np.stack([estimates(samples[0, k], samples[1, k]).within(0.90, low, high) for k in range(3)])
    # Losses are untied, so the distribution of the distance depends on the sizes alone: one critical value serves all.
    null = ks_distance(*rng.standard_normal((2, 4 * draws, patients)))
    critical = float(np.quantile(null, 1 - config.ks_alpha))
    alike = np.stack([ks_distance(samples[0, k], samples[1, k]) <= critical for k in range(3)])
    membership = within.all(axis=0) & alike.all(axis=0)
    by_point, by_equivalence = useful(patients, draws, rng, config.utility_tolerance)

    return (
        float(within[0].mean()),
        float(within.all(axis=0).mean()),
        float(membership.mean()),
        float((membership & by_point).mean()),
        float((membership & by_equivalence).mean()),
    )


def false_acceptance(patients: int, draws: int, rng: np.random.Generator) -> float:
    """Share accepted of models that remember by exactly the margin on one branch alone; utility is kept."""
    config = DecisionConfig()
    low, high = 0.5 - config.auc_margin, 0.5 + config.auc_margin
    # AUC .60 of two normal distributions.
    samples = losses((0.0, 0.0, 2**0.5 * 0.2533), patients, draws, rng)
    within = np.stack([estimates(samples[0, k], samples[1, k]).within(0.90, low, high) for k in range(3)])

    return float(within.all(axis=0).mean())


def whole_table(draws: int, rng: np.random.Generator, sizes: tuple[int, ...] = SIZES) -> str:
    """The table as markdown."""
    lines = [
        "| Patients per group | One branch | Three branches | and KS | and utility, by point estimates "
        "| and utility, by paired equivalence | Remembers by the margin on one branch: accepted |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for n in sizes:
        shares = (*row(n, draws, rng), false_acceptance(n, draws, rng))
        lines.append(f"| {n} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")

    return "\n".join(lines)


def main(draws: int = 2_000, seed: int = 0) -> None:
    """Print the table."""
    sys.stdout.write(whole_table(draws, np.random.default_rng(seed)) + "\n")


if __name__ == "__main__":
    main()
