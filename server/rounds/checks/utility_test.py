"""Whether a model is certainly worse than another on the same sites' test patients; values in, reasons out.

One test of all sites together, stratified by site, and one of each site, with Bonferroni's correction over all of them:
a veto may come from a single hospital, and must not come by chance because there are many.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import NormalDist

from common.learning.evaluation.auc_variance import least_variance
from common.learning.evaluation.figures import ClassAuc, Utility
from server.rounds.aggregation import shares

_ERROR = 0.025
"""Of all tests together, one-sided: as often as a 95 % interval lies above the truth."""
_TOGETHER = "all sites together"

MOST_SHARE = 0.6
"""Of one site in a pooled figure: how many test patients it has is its own word."""
FEWEST = 5
"""Of a class and of its rest: a rank of fewer patients than that says nothing, and its variance is no guide."""

Change = tuple[str, str, float, float]
"""Where, of what, by how much it fell, and the variance of that."""


def certainly_worse(before: Mapping[str, Utility], after: Mapping[str, Utility], tolerance: float) -> list[str]:
    """One reason for each drop beyond `tolerance` that is no chance: of a class's AUC, or of the balanced accuracy."""
    sites = sorted(before.keys() & after.keys())
    pairs = {site: (before[site], after[site]) for site in sites}
    changes = [*auc_drops(pairs), *_accuracy_drops(pairs)]
    if not changes:
        return []
    # The number of tests is known only now; with more hospitals each test must be surer.
    beyond = NormalDist().inv_cdf(1 - _ERROR / len(changes))

    return [
        f"{where}: {what} dropped by {drop:.2f}"
        for where, what, drop, variance in changes
        if drop - beyond * variance**0.5 > tolerance
    ]


def auc_drops(pairs: Mapping[str, tuple[Utility, Utility]]) -> Iterator[Change]:
    """Drops of each class's AUC: at each site with `FEWEST` patients of the class and of the rest, then together."""
    classes = max((len(new.auc) for _, new in pairs.values()), default=0)
    # Of two classes each one's AUC against the rest is the other's.
    for label in range(1 if classes == 2 else 0, classes):
        comparable = [
            (site, old.auc[label], new.auc[label])
            for site, (old, new) in pairs.items()
            if min(_smaller(old.auc[label]), _smaller(new.auc[label])) >= FEWEST
        ]
        what = f"test AUC of class {label}"
        changes = [
            (site, what, _auc(old) - _auc(new), _variance(old) + _variance(new)) for site, old, new in comparable
        ]
        yield from changes
        yield from _pooled(changes, [float(new.pairs) for _, _, new in comparable])


def _accuracy_drops(pairs: Mapping[str, tuple[Utility, Utility]]) -> Iterator[Change]:
    what = "balanced accuracy on test patients"
    changes = []

    for site, (old, new) in pairs.items():
        then = _balanced(old)
        now = _balanced(new)
        if then is not None and now is not None:
            changes.append((site, what, then[0] - now[0], then[1] + now[1]))

    yield from changes
    weights = [float(new.patients) for site, (_, new) in pairs.items() if any(site == change[0] for change in changes)]
    yield from _pooled(changes, weights)


def _pooled(changes: list[Change], weights: list[float]) -> Iterator[Change]:
    """The weighted mean over sites, none counting for more than `MOST_SHARE`; nothing where there is only one."""
    if len(changes) < 2 or not sum(weights):
        return
    of_site = pooled_shares({change[0]: weight for change, weight in zip(changes, weights, strict=True)})
    drop = sum(of_site.get(change[0], 0.0) * change[2] for change in changes)
    variance = sum(of_site.get(change[0], 0.0) ** 2 * change[3] for change in changes)
    yield _TOGETHER, changes[0][1], drop, variance


def pooled_shares(weights: Mapping[str, float]) -> dict[str, float]:
    """Share of each site in a pooled figure."""
    return shares(weights, MOST_SHARE)


def _smaller(figure: ClassAuc) -> int:
    return min(figure.positives, figure.negatives)


def _auc(figure: ClassAuc) -> float:
    return figure.wins / figure.pairs


def _variance(figure: ClassAuc) -> float:
    positives = max(figure.positives, 1)
    negatives = max(figure.negatives, 1)
    # Few patients that are ranked perfectly have an estimated variance of zero, which would make any drop certain.
    return max(figure.variance or 0.0, least_variance(_auc(figure), positives, negatives))


def _balanced(group: Utility) -> tuple[float, float] | None:
    """Mean share of each class that is called right, and its variance; one right and one wrong are added to each.

    After Agresti and Caffo (2000): of few patients, none right does not mean that none can be.
    """
    rows = [(row[label] + 1, sum(row) + 2) for label, row in enumerate(group.confusion) if sum(row)]
    if not rows:
        return None
    shares = [right / count for right, count in rows]
    variance = sum(share * (1 - share) / count for share, (_, count) in zip(shares, rows, strict=True))

    return sum(shares) / len(rows), variance / len(rows) ** 2
