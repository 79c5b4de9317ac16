"""Merge the sites' figures. The result equals that of scoring in one place, stratified by site."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy import stats

from common.learning.evaluation.auc_variance import least_variance
from common.learning.evaluation.figures import (
    Branch,
    FederationFigures,
    Group,
    Membership,
    SelectionFigures,
    SiteFigures,
    Utility,
)
from common.learning.evaluation.membership import MEASURED
from common.learning.evaluation.metrics import merge_utility, selection_loss
from common.learning.evaluation.scores import BRANCHES

UNMEASURED = "sites"
"""Key in `Membership.missing` for patients to forget who are in none of the merged figures."""
_NOBODY = Membership(
    forget_patients=0, control_patients=0, auc=None, variance=None, ks=None, ks_p=None,
    missing=dict.fromkeys(MEASURED, "no patients to forget here"),
)  # fmt: skip
# Number of sites after which figures are added up, which takes about a millisecond.
_FOLD = 64


@dataclass(frozen=True, slots=True)
class Eligible:
    """Upper bounds for the weight of a forgetting site's membership figures: collected counts, not claimed ones."""

    forget: int
    """Revocations pending there when the campaign started."""
    control: int
    """Never-seen patients in the set used as controls."""


class AuditMerge:
    """Merge audits in any order of arrival, keeping only the test figures and the membership figures of each.

    All figures of one site take 55 kB as objects. With `eligible`, membership comes from these sites only.
    """

    def __init__(self, eligible: Mapping[str, Eligible] | None = None) -> None:
        self._groups: dict[tuple[Group, Branch], _Folded] = defaultdict(_Folded)
        self._memberships = _Memberships(eligible)
        self._tests: dict[str, Utility] = {}
        self._distances: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._tests)

    def add(self, name: str, part: SiteFigures) -> None:
        """The audit of one site."""
        for group, branches in part.groups.items():
            for branch, figures in branches.items():
                self._groups[group, branch].add(name, figures)

        self._memberships.add(name, part.membership)
        self._tests[name] = part.groups["test"]["fused"]
        if part.distance is not None:
            self._distances[name] = part.distance

    def result(self) -> FederationFigures:
        """The merged figures, equal bit for bit in any order of arrival."""
        groups: dict[Group, dict[Branch, Utility]] = defaultdict(dict)
        for (group, branch), total in self._groups.items():
            groups[group][branch] = total.result()
        return FederationFigures(
            groups=dict(groups),
            membership=self._memberships.result(),
            membership_by_site=self._memberships.forgetting(),
            test_by_site=dict(sorted(self._tests.items())),
            distance_by_site=dict(sorted(self._distances.items())),
        )


class SelectionMerge:
    """As `AuditMerge`, for selection figures."""

    def __init__(self, eligible: Mapping[str, Eligible] | None = None) -> None:
        self._validation: dict[Branch, _Folded] = defaultdict(_Folded)
        self._memberships = _Memberships(eligible)
        self._count = 0
        self.losses: dict[str, float] = {}
        """`selection_loss` of each site that has validation patients."""

    def __len__(self) -> int:
        return self._count

    def add(self, name: str, part: SelectionFigures) -> None:
        """The figures of one site."""
        for branch, figures in part.validation.items():
            self._validation[branch].add(name, figures)
        self._memberships.add(name, part.membership)
        self._count += 1
        loss = selection_loss(part)
        if loss is not None:
            self.losses[name] = loss

    def result(self) -> SelectionFigures:
        """See `AuditMerge.result`."""
        validation = {branch: total.result() for branch, total in self._validation.items()}
        return SelectionFigures(validation=validation, membership=self._memberships.result())


class _Folded:
    """One group and branch, merged after every few sites."""

    def __init__(self) -> None:
        self._parts: list[Utility] = []
        self._losses: dict[str, float] = {}
        self._empty: Utility | None = None

    def add(self, name: str, part: Utility) -> None:
        if not part.patients:
            self._empty = part
            return

        self._losses[name] = part.loss_sum
        self._parts.append(part)
        # Objects of a thousand sites would take 55 MB, one of sums takes next to nothing.
        if len(self._parts) == _FOLD:
            self._parts = [merge_utility(self._parts)]

    def result(self) -> Utility:
        if not self._parts:
            return cast(Utility, self._empty)
        # All other sums are of whole and half numbers, so exact. This one depends on the order in its last bits.
        losses = sum(self._losses[name] for name in sorted(self._losses))
        return merge_utility(self._parts).model_copy(update={"loss_sum": losses})


class _Memberships:
    """Membership of sites that forget patients, and of the first site by name, which says why a figure is missing.

    Figures of a site that is not `eligible` are no evidence: patients may have revoked there after the campaign
    started, or the site claims patients of others.
    """

    def __init__(self, eligible: Mapping[str, Eligible] | None) -> None:
        self._eligible = eligible
        self._by_site: dict[str, dict[Branch, Membership]] = {}
        self._first: tuple[str, dict[Branch, Membership]] | None = None

    def add(self, name: str, part: dict[Branch, Membership]) -> None:
        if self._eligible is not None and name not in self._eligible:
            part = dict.fromkeys(part, _NOBODY)
        if any(member.forget_patients for member in part.values()) or name in (self._eligible or {}):
            self._by_site[name] = part
        if self._first is None or name < self._first[0]:
            self._first = (name, part)

    def forgetting(self) -> dict[str, dict[Branch, Membership]]:
        """As the sites reported them."""
        return {name: part for name, part in sorted(self._by_site.items()) if part["fused"].forget_patients}

    def result(self) -> dict[Branch, Membership]:
        by_site = dict([self._first] if self._first else []) | self._by_site
        parts = [self._bounded(name, part) for name, part in sorted(by_site.items())]
        return {b: merge_membership([part[b] for part in parts]) for b in BRANCHES}

    def _bounded(self, name: str, part: dict[Branch, Membership]) -> dict[Branch, Membership]:
        limits = (self._eligible or {}).get(name)
        if limits is None:
            return part
        members = {branch: bounded(member, limits) for branch, member in part.items()}
        fusion = members["fused"]
        # Patients whom `matching` leaves out are missing for a reason that is given already.
        gap = limits.forget - fusion.forget_patients
        if gap > 0 and "matching" not in fusion.missing:
            why = {UNMEASURED: f"{gap} patients to forget were not measured"}
            members["fused"] = fusion.model_copy(update={"missing": fusion.missing | why})

        return members


def merge(parts: Mapping[str, SiteFigures]) -> FederationFigures:
    """Merge a complete set of audits."""
    merging = AuditMerge()
    for name, part in parts.items():
        merging.add(name, part)
    return merging.result()


def merge_selection(parts: Mapping[str, SelectionFigures]) -> SelectionFigures:
    """Merge selection figures."""
    merging = SelectionMerge()
    for name, part in parts.items():
        merging.add(name, part)
    return merging.result()


def bounded(member: Membership, limits: Eligible) -> Membership:
    """Cap the counts of figures at `limits`, and raise their variance to the least that so few patients allow."""
    forget = min(member.forget_patients, limits.forget)
    control = min(member.control_patients, limits.control)
    counts = {"forget_patients": forget, "control_patients": control}
    if member.auc is None or member.variance is None:
        return member.model_copy(update=counts)
    # A weighted sum of shares may exceed 1 by a rounding error, which the formula does not know.
    least = least_variance(min(member.auc, 1.0), max(1, forget), max(1, control))

    return member.model_copy(update={**counts, "variance": max(member.variance, least)})


def merge_membership(parts: list[Membership]) -> Membership:
    """Stratified Mann-Whitney: sites weigh by their forget patients; p-values combine by Fisher's method.

    SVC is a share of studies, so for it a site weighs by its forget studies; the calibrated rank weighs by the patients
    who have one.
    """
    usable = [part for part in parts if part.auc is not None]
    left_out = sum(part.forget_patients for part in parts if part.auc is None)
    reasons = [f"{left_out} patients to forget at sites with too few to measure"] if left_out else []
    reasons += [part.missing[UNMEASURED] for part in parts if UNMEASURED in part.missing]
    warning = {UNMEASURED: "; ".join(dict.fromkeys(reasons))[:200]} if reasons else {}
    # Nothing was measured; the largest site gives the reason.
    if not usable:
        return max(parts, key=lambda part: part.forget_patients)
    # One site's figures stay as they are: merging would round them.
    if len(usable) == 1:
        return usable[0].model_copy(update={"missing": usable[0].missing | warning})
    counts = np.array([part.forget_patients for part in usable], dtype=float)
    weights = counts / counts.sum()

    def mean(name: str) -> float | None:
        values = [getattr(part, name) for part in usable]
        return None if any(v is None for v in values) else float(weights @ np.asarray(values, dtype=float))

    with_rank = [part for part in usable if part.calibrated is not None]
    of_calibrated = np.array([part.calibrated_patients for part in with_rank], dtype=float)
    share = of_calibrated / max(of_calibrated.sum(), 1.0)
    studies = sum(part.forget_studies for part in usable)
    calls = [None if part.svc is None else part.svc * part.forget_studies for part in usable]
    missing: dict[str, str] = {}
    for part in usable:
        missing |= part.missing
    missing |= warning

    return Membership(
        forget_patients=int(counts.sum()),
        control_patients=sum(part.control_patients for part in usable),
        auc=mean("auc"),
        # Sites are independent, so the variances of their weighted figures add up.
        variance=float(weights**2 @ np.array([part.variance for part in usable], dtype=float)),
        ks=mean("ks"),
        # A p of 0 is refused on arrival; a p that is not there is no evidence against the model.
        ks_p=float(stats.combine_pvalues([float(part.ks_p or 1.0) for part in usable]).pvalue),
        calibrated=float(share @ [part.calibrated for part in with_rank]) if with_rank else None,
        calibrated_variance=float(share**2 @ [part.calibrated_variance for part in with_rank]) if with_rank else None,
        calibrated_patients=int(of_calibrated.sum()),
        svc=None if None in calls or not studies else sum(c for c in calls if c is not None) / studies,
        forget_studies=studies,
        tpr_at_1pct_fpr=mean("tpr_at_1pct_fpr"),
        accuracy_forget=mean("accuracy_forget"),
        accuracy_control=mean("accuracy_control"),
        accuracy_variance=float(weights**2 @ np.array([part.accuracy_variance or 0.0 for part in usable])),
        missing=missing,
    )


def interval(membership: Membership, level: float) -> tuple[float, float] | None:
    """Interval of the AUC at `level`, by Student's t with the smaller group's degrees of freedom, within [0, 1].

    The variance is that of resampling, and at every site at least `least_variance`, so that ties or perfect order
    among few patients do not count as certainty. `common.learning.evaluation.sample_size.power` shows the coverage.
    """
    if membership.auc is None or membership.variance is None:
        return None
    freedom = max(1, min(membership.forget_patients, membership.control_patients) - 1)
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * membership.variance**0.5

    return max(0.0, membership.auc - half), min(1.0, membership.auc + half)
