"""Figures of an audit, with their intervals, for a version's record."""

from __future__ import annotations

from collections.abc import Sequence

from common.evidence.outcomes.acceptance import MEMBERSHIP
from common.learning.evaluation.decision import Z95
from common.learning.evaluation.figures import FederationFigures
from common.learning.evaluation.merge import interval
from server.registry.manifest import Metric


def metrics_of(figures: FederationFigures, classes: Sequence[str]) -> tuple[Metric, ...]:
    """Figures of an audit for the record: test AUC by class, at every site, and membership by branch."""
    lines = []

    for site, group in sorted(figures.test_by_site.items()):
        for name, auc in zip(classes, group.auc, strict=True):
            label = f"test AUC of {name} at {site}"
            if auc.auc is None:
                lines.append(Metric(name=label, value=None, missing="the class or its rest is absent"))
                continue

            half = Z95 * (auc.variance or 0.0) ** 0.5
            low = max(0.0, auc.auc - half)
            high = min(1.0, auc.auc + half)
            lines.append(Metric(name=label, value=auc.auc, low=low, high=high, patients=group.patients))

    for branch, member in figures.membership.items():
        label = f"{MEMBERSHIP}{branch}, forgotten against never-seen patients (.5 is the aim)"
        limits = interval(member, 0.95)

        if member.auc is None or limits is None:
            reasons = "; ".join(dict.fromkeys(member.missing.values())) or "nobody was forgotten"
            lines.append(Metric(name=label, value=None, missing=reasons))
            continue

        lines.append(
            Metric(name=label, value=member.auc, low=limits[0], high=limits[1], patients=member.forget_patients)
        )

    return tuple(lines)
