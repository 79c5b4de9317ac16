"""Whether the other hospitals' test patients fare worse with a candidate that unlearned; values in, reasons out.

Both models are measured on the same patients, but sites send counts, so nothing says which patients are called right by
both. The variance is therefore that of two independent measurements, which is too large for patients who are measured
twice: a test at 5 % makes fewer errors than that. `python -m simulations.bench.power.veto` shows how many.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist

from common.learning.config import DecisionConfig
from common.learning.evaluation.figures import FederationFigures, Utility
from server.rounds.checks.utility_test import FEWEST, auc_drops, pooled_shares

_POOLED_ERROR = 0.05
"""Of each test of all sites together, one-sided."""
_SITE_ERROR = 0.025
"""Of all tests of single sites together, one-sided; shared among them by Bonferroni's correction."""
_TOGETHER = "other sites together"

Pair = tuple[Utility, Utility]
"""Figures of the version in use and of the candidate, on the same test patients."""


@dataclass(frozen=True, slots=True)
class Loss:
    """An estimated drop, its variance, and the sentence that reports it."""

    drop: float
    variance: float
    text: str

    def certain(self, error: float, tolerance: float) -> bool:
        """Whether the drop exceeds the tolerance at this one-sided error."""
        return self.drop - NormalDist().inv_cdf(1 - error) * math.sqrt(self.variance) > tolerance


@dataclass(frozen=True, slots=True)
class _Losses:
    """All losses at one place: one site, or all sites together."""

    aucs: tuple[Loss, ...]
    shares: tuple[Loss, ...]
    balanced_accuracy: Loss | None

    def __len__(self) -> int:
        return len(self.aucs) + len(self.shares) + (self.balanced_accuracy is not None)

    def reasons(self, error: float, tolerance: float) -> list[str]:
        """One for each certain loss; balanced accuracy counts where no class alone is certain."""
        aucs = [loss.text for loss in self.aucs if loss.certain(error, tolerance)]
        shares = [loss.text for loss in self.shares if loss.certain(error, tolerance)]
        if not shares and self.balanced_accuracy is not None and self.balanced_accuracy.certain(error, tolerance):
            shares = [self.balanced_accuracy.text]

        return [*aucs, *shares]


def veto(
    before: FederationFigures, after: FederationFigures, forgetting: Collection[str], config: DecisionConfig
) -> list[str]:
    """Reasons for which sites that forget nobody refuse a candidate; empty if none does.

    The figures compared are each class's test AUC, the share of each class that is called right, which a shifted output
    can ruin while the order stays, and the mean of these shares. They are tested for all these sites together,
    stratified by site, and for each site. A site that was measured before and sends no figures now refuses as well.
    """
    old = {site: group for site, group in before.test_by_site.items() if site not in forgetting}
    new = {site: group for site, group in after.test_by_site.items() if site not in forgetting}
    # Silence refuses as well: otherwise a lost reply would be a way around a hospital's veto.
    silent = [f"{site}: sent no test figures of the candidate" for site in sorted(old.keys() - new.keys())]
    pairs = {site: (old[site], new[site]) for site in sorted(old.keys() & new.keys())}
    if not pairs:
        return silent

    # A single site is all sites together.
    together = _losses(_TOGETHER if len(pairs) > 1 else next(iter(pairs)), pairs)
    alone = [_losses(site, {site: pair}) for site, pair in pairs.items()] if len(pairs) > 1 else []
    tests = sum(map(len, alone))
    reasons = [
        reason for losses in alone for reason in losses.reasons(_SITE_ERROR / max(tests, 1), config.utility_tolerance)
    ]

    return [*silent, *reasons, *together.reasons(_POOLED_ERROR, config.utility_tolerance)]


def _losses(where: str, pairs: Mapping[str, Pair]) -> _Losses:
    aucs = tuple(
        Loss(drop, variance, f"{where}: {what} dropped by {drop:.2f}")
        for place, what, drop, variance in auc_drops(pairs)
        # Of several sites, the pooled figure alone: each site's own is tested at its own level.
        if len(pairs) == 1 or place not in pairs
    )
    shares = tuple(_share_losses(where, pairs))
    # The mean of one share is that share: testing it twice would only weaken the correction.
    if len(shares) < 2:
        return _Losses(aucs, shares, None)

    # Classes have different patients, so the variances add up.
    drop = sum(loss.drop for loss in shares) / len(shares)
    variance = sum(loss.variance for loss in shares) / len(shares) ** 2
    text = f"{where}: balanced accuracy on test patients dropped by {drop:.2f}"

    return _Losses(aucs, shares, Loss(drop, variance, text))


def _share_losses(where: str, pairs: Mapping[str, Pair]) -> Iterator[Loss]:
    """The drop of the share that is called right of each class with `FEWEST` patients, stratified by site."""
    for label in range(max(len(new.confusion) for _, new in pairs.values())):
        strata = {
            site: (old.confusion[label][label], sum(old.confusion[label]), new.confusion[label][label], patients)
            for site, (old, new) in pairs.items()
            if sum(old.confusion[label]) and (patients := sum(new.confusion[label]))
        }
        total = sum(patients for *_, patients in strata.values())
        if min(total, sum(count for _, count, _, _ in strata.values())) < FEWEST:
            continue
        # Each site weighs by its patients now, so that a site that imported some in between compares with itself.
        weights = pooled_shares({site: patients for site, (*_, patients) in strata.items()})
        share_before = sum(weights[site] * right / count for site, (right, count, _, _) in strata.items())
        share_after = sum(weights[site] * right / patients for site, (_, _, right, patients) in strata.items())
        variance = sum(
            weights[site] ** 2 * (_shrunk(share_before, total) / count + _shrunk(share_after, total) / patients)
            for site, (_, count, _, patients) in strata.items()
        )
        text = f"{where}: {share_after:.0%} of class {label} are called right, {share_before:.0%} before"
        yield Loss(share_before - share_after, variance, text)


def _shrunk(share: float, patients: int) -> float:
    """Variance of one patient, from a share with one right and one wrong added, after Agresti and Caffo (2000).

    Of few patients, all right does not mean that none can be wrong. A common share is conservative: sites that differ
    in it have a smaller variance together.
    """
    share_with_two_more = (share * patients + 1) / (patients + 2)
    return share_with_two_more * (1 - share_with_two_more) * patients / (patients + 2)
