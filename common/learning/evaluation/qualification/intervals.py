"""Intervals of a mean over rehearsals that share their controls, and the exact bound of a share."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import special

from common.learning.evaluation.qualification.figures import Moments, Shared


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over rehearsals with its standard error and degrees of freedom."""

    mean: float
    error: float
    freedom: float

    def interval(self, level: float) -> tuple[float, float]:
        """Two-sided interval, `level` below and `level` above it."""
        half = float(special.stdtrit(self.freedom, 1 - level)) * self.error
        return self.mean - half, self.mean + half


def estimate(values: Moments, shared: Shared) -> Estimate:
    """V = s2/M + s2_C/C, with degrees of freedom after Satterthwaite (1946, doi 10.2307/3002019).

    The variance between rehearsals does not contain that of the controls, which are the same for all of them.
    """
    between = values.variance
    control = shared.variance / values.weight**2
    total = between + control
    by_freedom = between**2 / max(values.count - 1, 1) + shared.by_freedom / values.weight**4
    freedom = max(total**2 / by_freedom, 1.0) if by_freedom > 0 else 1.0

    # Never 0: a variance that vanishes by chance must not make an interval of no width.
    return Estimate(values.mean, max(total**0.5, 1e-9), freedom)


def combined(parts: list[tuple[float, Estimate]]) -> Estimate:
    """Weighted sum of independent estimates."""
    mean = sum(weight * part.mean for weight, part in parts)
    variances = [(weight * part.error) ** 2 for weight, part in parts]
    total = sum(variances)
    freedom = total**2 / sum(v**2 / part.freedom for v, (_, part) in zip(variances, parts, strict=True))

    return Estimate(mean, total**0.5, freedom)


def share_bound(count: int, of: int, level: float) -> float:
    """Exact upper bound of a share (Clopper & Pearson 1934): it is exceeded with probability `level`."""
    # The incomplete beta function has no value there; the bound is 1.
    if count >= of:
        return 1.0
    return float(special.betaincinv(count + 1, of - count, 1 - level))
