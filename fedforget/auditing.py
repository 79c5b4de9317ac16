"""Membership inference on your own model: can forgotten patients be told from patients it never saw?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from torch import nn

from common.errors import ConfigError
from common.learning.evaluation.membership import membership
from common.learning.evaluation.merge import interval
from common.learning.evaluation.scores import BRANCHES
from common.learning.model.image_text import ImageTextModel
from common.learning.training import score
from fedforget.patients import Patients

_CONFIDENCE = 0.90


@dataclass(frozen=True, slots=True)
class BranchAudit:
    """Audit of one branch.

    Attributes:
        branch: `image`, `text` or `fused`.
        auc: probability that a forgotten patient has a lower loss than a never-seen one of the same label. The aim is
            .5; above it the model remembers, below it the model has over-forgotten. None if not measurable.
        interval: the 90 % interval of `auc`.
        ks_p: p-value of a Kolmogorov-Smirnov test between the two groups' losses.
        finding: `shown` (the interval lies within the margin), `refuted` (outside), or `not shown`.
        missing: reasons for figures that are None.
    """

    branch: str
    auc: float | None
    interval: tuple[float, float] | None
    ks_p: float | None
    finding: str
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """Audit of all branches, with its margin."""

    branches: tuple[BranchAudit, ...]
    margin: float
    forget_patients: int
    never_seen_patients: int

    @property
    def finding(self) -> str:
        """`shown` if all branches are, `refuted` if any branch is, otherwise `not shown`."""
        findings = {branch.finding for branch in self.branches}
        # One branch that remembers is enough: an attacker takes the best one.
        if "refuted" in findings:
            return "refuted"
        return "shown" if findings == {"shown"} else "not shown"

    def table(self) -> Any:
        """One row per branch: a pandas DataFrame, or a list of dicts if pandas is not installed."""
        rows = [
            {
                "branch": branch.branch,
                "auc": branch.auc,
                "low": branch.interval and branch.interval[0],
                "high": branch.interval and branch.interval[1],
                "ks_p": branch.ks_p,
                "forgetting": branch.finding,
            }
            for branch in self.branches
        ]
        return as_table(rows)


def audit(
    model: nn.Module, forget: Patients, never_seen: Patients, *, margin: float = 0.10, draws: int = 1000, seed: int = 0
) -> Audit:
    """Compare the losses of forgotten patients with those of patients that the model never saw.

    This is an equivalence test: forgetting is *shown* only if the whole 90 % interval lies in .5 +- `margin`. Few
    patients give wide intervals, which show nothing.

    Args:
        model: see `Patients`.
        forget: the forgotten patients.
        never_seen: patients from the same population who took part in neither training nor unlearning.
        margin: half-width of the band around .5; fix it before you look at results.
        draws: number of bootstrap draws.
        seed: seed of the bootstrap.

    Raises:
        ConfigError: the margin is not between 0 and .5.
    """
    if not 0.0 < margin < 0.5:
        raise ConfigError("the margin must lie between 0 and .5", where="margin")

    forget_scores = score(cast(ImageTextModel, model), forget)
    never_seen_scores = score(cast(ImageTextModel, model), never_seen)
    rng = np.random.default_rng(seed)
    branches = []

    for number, name in enumerate(BRANCHES):
        figures = membership(forget_scores, never_seen_scores, number, draws=draws, rng=rng)
        within = interval(figures, _CONFIDENCE)
        branches.append(
            BranchAudit(
                branch=name,
                auc=figures.auc,
                interval=within,
                ks_p=figures.ks_p,
                finding=_finding(within, margin),
                missing=tuple(dict.fromkeys(figures.missing.values())),
            )
        )

    return Audit(
        tuple(branches), margin, len(np.unique(forget_scores.patients)), len(np.unique(never_seen_scores.patients))
    )


def as_table(rows: list[dict[str, Any]]) -> Any:
    """A pandas DataFrame of the rows, or the rows themselves if pandas is not installed."""
    try:
        import pandas  # noqa: PLC0415 - optional
    except ImportError:
        return rows

    return pandas.DataFrame(rows)


def _finding(within: tuple[float, float] | None, margin: float) -> str:
    if within is None:
        return "not shown"
    low = 0.5 - margin
    high = 0.5 + margin
    if low <= within[0] and within[1] <= high:
        return "shown"
    return "refuted" if within[0] > high or within[1] < low else "not shown"
