"""From the sites' figures to the federation's. Merging gives what scoring at one place, stratified by site, gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
from scipy import stats

from common.evaluation.figures import Branch, FederationFigures, Membership, SelectionFigures, SiteFigures, Utility
from common.evaluation.metrics import merge_utility
from common.evaluation.scores import BRANCHES

UNMEASURED = "sites"
"""Key in `Membership.missing` when patients to be forgotten are in none of the merged figures."""


def merge(parts: Mapping[str, SiteFigures]) -> FederationFigures:
    """Merge audits, sites in sorted order."""
    names = sorted(parts)
    first = parts[names[0]]
    return FederationFigures(
        groups={
            group: {b: merge_utility([parts[n].groups[group][b] for n in names]) for b in branches}
            for group, branches in first.groups.items()
        },
        membership=_merge_branches([parts[n].membership for n in names]),
        membership_by_site={n: parts[n].membership for n in names if parts[n].membership["fused"].forget_patients},
        test_by_site={n: parts[n].groups["test"]["fused"] for n in names},
    )


def merge_selection(parts: Mapping[str, SelectionFigures]) -> SelectionFigures:
    """Merge what selection sees."""
    names = sorted(parts)
    validation: dict[Branch, Utility] = {
        b: merge_utility([parts[n].validation[b] for n in names]) for b in parts[names[0]].validation
    }
    return SelectionFigures(validation=validation, membership=_merge_branches([parts[n].membership for n in names]))


def _merge_branches(parts: list[dict[Branch, Membership]]) -> dict[Branch, Membership]:
    return {cast(Branch, b): merge_membership([part[cast(Branch, b)] for part in parts]) for b in BRANCHES}


def merge_membership(parts: list[Membership]) -> Membership:
    """Stratified Mann-Whitney: sites weigh by their forget patients; p-values combine by Fisher's method.

    SVC is a share of studies, so for it a site weighs by its forget studies.
    """
    known = [part for part in parts if part.auc is not None]
    left_out = sum(part.forget_patients for part in parts if part.auc is None)
    unmeasured = {UNMEASURED: f"{left_out} patients to forget at sites with too few to measure"} if left_out else {}
    if not known:
        return max(parts, key=lambda part: part.forget_patients)
    if len(known) == 1:
        return known[0].model_copy(update={"missing": known[0].missing | unmeasured})
    counts = np.array([part.forget_patients for part in known], dtype=float)
    weights = counts / counts.sum()

    def mean(name: str) -> float | None:
        values = [getattr(part, name) for part in known]
        return None if any(v is None for v in values) else float(weights @ np.asarray(values, dtype=float))

    studies = sum(part.forget_studies for part in known)
    called = [None if part.svc is None else part.svc * part.forget_studies for part in known]
    missing: dict[str, str] = {}
    for part in known:
        missing |= part.missing
    missing |= unmeasured
    return Membership(
        forget_patients=int(counts.sum()),
        control_patients=sum(part.control_patients for part in known),
        auc=mean("auc"),
        variance=float(weights**2 @ np.array([part.variance for part in known], dtype=float)),
        ks=mean("ks"),
        ks_p=float(stats.combine_pvalues([float(part.ks_p or 1.0) for part in known]).pvalue),
        rmia_auc=mean("rmia_auc"),
        svc=None if None in called or not studies else sum(c for c in called if c is not None) / studies,
        forget_studies=studies,
        tpr_at_1pct_fpr=mean("tpr_at_1pct_fpr"),
        accuracy_forget=mean("accuracy_forget"),
        accuracy_control=mean("accuracy_control"),
        accuracy_variance=float(weights**2 @ np.array([part.accuracy_variance or 0.0 for part in known])),
        missing=missing,
    )


def interval(membership: Membership, level: float) -> tuple[float, float] | None:
    """Interval of the AUC at `level`, by Student's t with the smaller group's degrees of freedom, within [0, 1].

    The variance is that of resampling, and at every site at least `least_variance`, so that ties or perfect order
    among few patients do not pass for certainty. `common.evaluation.power` shows the coverage.
    """
    if membership.auc is None or membership.variance is None:
        return None
    freedom = max(1, min(membership.forget_patients, membership.control_patients) - 1)
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * membership.variance**0.5
    return max(0.0, membership.auc - half), min(1.0, membership.auc + half)
