"""The rule Q1 to Q5 by which rehearsals qualify a procedure: every part must hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from common.learning.evaluation.figures import Branch, Count, Figures
from common.learning.evaluation.qualification.figures import ClassLoss, Moments, Shared, Signed, SiteRehearsals
from common.learning.evaluation.qualification.intervals import Estimate, combined, estimate, share_bound
from common.learning.evaluation.qualification.plan import LEAST_REHEARSALS, QualificationPlan
from common.learning.evaluation.scores import BRANCHES

Part = Literal["size", "Q1", "Q2", "Q3", "Q4", "Q5"]
OUTPUT: Branch = "fused"
"""The branch by which the model predicts: there the assay must be able to see."""


class BranchResult(Figures):
    """D of one branch with its interval, the same of the original model, and the share of patients who stand out."""

    difference: Signed
    low: Signed
    high: Signed
    original: Signed
    original_low: Signed
    nearer: Signed
    nearer_low: Signed
    known: Count
    """Patients who stand out as known to the model."""
    over_forgotten: Count
    share_bound: float
    """Exact upper bound of the larger of both shares."""
    sensitive: bool
    """Whether the original model is seen to remember on this branch."""


class UtilityResult(Figures):
    """Loss of test AUC of one class, at one site or (empty `site`) over all."""

    site: str
    label: int
    loss: Signed
    bound: Signed
    """Upper bound."""


class Finding(Figures):
    """One part of the rule that does not hold, in one line."""

    part: Part
    text: str


class Qualification(Figures):
    """What the rehearsals showed, and what the conformity of a real campaign is judged by."""

    qualified: bool
    rehearsals: Count
    patients: Count
    sizes: tuple[int, ...]
    controls: Count
    level: float
    branches: dict[Branch, BranchResult]
    utility: tuple[UtilityResult, ...]
    findings: tuple[Finding, ...]
    distances: tuple[float, ...] = Field(repr=False)
    """Distance of each rehearsal, sorted."""

    @property
    def blind(self) -> tuple[Branch, ...]:
        """Branches on which the original model is not seen to remember, so that nothing could be seen to go."""
        return tuple(name for name, result in self.branches.items() if not result.sensitive)


def qualify(plan: QualificationPlan, sites: Mapping[str, SiteRehearsals]) -> Qualification:
    """Apply the registered rule to the reports of all sites.

    Q1: the interval of D lies within the margin in every branch (an intersection-union test, so no correction).
    Q2: on either side and in every branch, the exact upper bound of the share of patients who stand out is below the
    limit. Q3: the original model is seen to remember, on the branch of the output. Q4: the upper bound of the loss of
    test AUC is within the tolerance, over all and at each hospital with enough patients. Q5: on the branch of the
    output, the patients stand nearer to the fold models than to the original.
    """
    findings: list[Finding] = []
    rehearsals = sum(report.rehearsals for report in sites.values())
    patients = sum(report.patients for report in sites.values())
    # Hospitals that did not rehearse had no use for their never-seen patients.
    controls = sum(report.controls for report in sites.values() if report.rehearsals)
    in_all = sum(report.judged for report in sites.values())
    level = plan.attempt_level

    def fails(part: Part, text: str) -> None:
        findings.append(Finding(part=part, text=text))

    # Is there enough to judge?
    if rehearsals < plan.rehearsals:
        fails("size", f"{rehearsals} rehearsals of {plan.rehearsals} were scored")
    elif rehearsals < LEAST_REHEARSALS:
        fails("size", f"{rehearsals} rehearsals, {LEAST_REHEARSALS} are needed to tell whether a campaign conforms")
    if controls < plan.least_controls:
        fails(
            "size",
            f"{controls} never-seen patients, {plan.least_controls} are needed: {plan.least_controls - controls} more",
        )
    # A single rehearsal has no variance, and so no interval to judge.
    if rehearsals < 2:
        return Qualification(
            qualified=False, rehearsals=rehearsals, patients=patients, sizes=plan.sizes, controls=controls, level=level,
            branches={}, utility=(), findings=tuple(findings), distances=(),
        )  # fmt: skip

    results = {name: _branch(plan, sites, name, in_all) for name in BRANCHES}
    margin = plan.auc_margin

    # Q1 and Q2 on every branch: the mean difference, and the share of patients who stand out.
    for name, result in results.items():
        if not -margin < result.low <= result.high < margin:
            fails("Q1", f"{name}: D {result.difference:+.3f}, interval {result.low:+.3f} to {result.high:+.3f}, "
                  f"leaves +-{margin:.2f}")  # fmt: skip
        if not result.share_bound < plan.share_limit:
            most = max(result.known, result.over_forgotten)
            fails("Q2", f"{name}: {most} of {in_all} patients stand out; the share may be {result.share_bound:.3f}, "
                  f"the limit is {plan.share_limit:.2f}")  # fmt: skip

    # Q3 and Q5 on the output: was there something to forget, and is it gone?
    output = results[OUTPUT]
    if not output.sensitive:
        fails("Q3", f"there is too little memory to measure: the original model differs by {output.original:+.3f}, "
              f"at least {output.original_low:+.3f}, needed is {margin:+.2f}")  # fmt: skip
    if not output.nearer_low > 0:
        fails("Q5", f"{OUTPUT}: not shown to be nearer to models that never saw the patients than to the original")

    # Q4: what the rehearsals cost other patients.
    utility = _utility(plan, sites)
    if not any(result.site == "" for result in utility):
        fails("Q4", "no hospital has test patients of a class and of another")
    for loss in utility:
        if not loss.bound <= plan.utility_tolerance:
            where = loss.site or "all hospitals"
            fails("Q4", f"{where}: test AUC of class {loss.label} may have fallen by {loss.bound:.3f}, "
                  f"allowed is {plan.utility_tolerance:.2f}")  # fmt: skip

    return Qualification(
        qualified=not findings,
        rehearsals=rehearsals,
        patients=patients,
        sizes=plan.sizes,
        controls=controls,
        level=level,
        branches=results,
        utility=utility,
        findings=tuple(findings),
        distances=tuple(sorted(d for report in sites.values() for d in report.distances)),
    )


def _branch(plan: QualificationPlan, sites: Mapping[str, SiteRehearsals], branch: Branch, judged: int) -> BranchResult:
    parts = [report.branches[branch] for report in sites.values() if report.rehearsals]
    level = plan.attempt_level
    after = estimate(_sum([p.rehearsed for p in parts]), _shared([p.rehearsed_shared for p in parts]))
    before = estimate(_sum([p.original for p in parts]), _shared([p.original_shared for p in parts]))
    nearer = estimate(_sum([p.nearer for p in parts]), _shared([p.original_shared for p in parts]))
    recognised_patients = sum(p.high for p in parts)
    over_forgotten = sum(p.low for p in parts)
    low, high = after.interval(level)
    original_low = before.interval(level)[0]

    return BranchResult(
        difference=after.mean,
        low=low,
        high=high,
        original=before.mean,
        original_low=original_low,
        nearer=nearer.mean,
        nearer_low=nearer.interval(level)[0],
        known=recognised_patients,
        over_forgotten=over_forgotten,
        share_bound=share_bound(max(recognised_patients, over_forgotten), judged, level),
        sensitive=original_low > plan.auc_margin,
    )


def _utility(plan: QualificationPlan, sites: Mapping[str, SiteRehearsals]) -> tuple[UtilityResult, ...]:
    """Over all hospitals, weighted by pairs as their AUC is; and each that has enough test patients."""
    results = []
    labels = max((len(report.utility) for report in sites.values()), default=0)
    level = plan.attempt_level

    for label in range(labels):
        parts: list[tuple[str, ClassLoss]] = [
            (name, report.utility[label])
            for name, report in sorted(sites.items())
            if label < len(report.utility) and report.utility[label].loss.count > 1
        ]
        if not parts:
            continue
        # As the AUC of all hospitals is their wins over their pairs.
        pairs = sum(p.positives * p.negatives for _, p in parts)
        estimates = [(p.positives * p.negatives / pairs, estimate(p.loss, p.shared)) for _, p in parts]
        results.append(_loss("", label, combined(estimates), level))

        for (name, part), (_, own) in zip(parts, estimates, strict=True):
            # A hospital's own test is that of all where it is the only one.
            if min(part.positives, part.negatives) >= plan.least_class and len(parts) > 1:
                results.append(_loss(name, label, own, level))

    return tuple(results)


def _loss(site: str, label: int, loss: Estimate, level: float) -> UtilityResult:
    return UtilityResult(site=site, label=label, loss=loss.mean, bound=loss.interval(level)[1])


def _sum(values: Sequence[Moments]) -> Moments:
    return sum(values, Moments())


def _shared(values: Sequence[Shared]) -> Shared:
    return sum(values, Shared())
