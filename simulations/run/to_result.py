"""From the evaluator's figures to the schema of `result.json`."""

from __future__ import annotations

from common.learning.evaluation.figures import Branch, FederationFigures, Membership, Utility
from common.learning.evaluation.merge import interval
from common.learning.evaluation.metrics import accuracy, macro_auc, macro_f1, mean_loss
from server.rounds.training import Round
from simulations.result import (
    BranchMetrics,
    BranchMia,
    GroupMetrics,
    GroupName,
    Histogram,
    Missing,
    ModelName,
    ModelResult,
    RoundRecord,
)

GROUPS: tuple[GroupName, ...] = ("forget", "retain", "never_seen", "test")
BRANCHES: tuple[Branch, ...] = ("image", "text", "fused")


def model_result(figures: FederationFigures, digest: str, distance: float | None) -> ModelResult:
    """All figures of one model; a null keeps its reason in `missing`."""
    branches = {b: BranchMetrics(groups={g: group_metrics(figures.groups[g][b]) for g in GROUPS}) for b in BRANCHES}
    groups = branches["fused"].groups
    missing = [
        Missing(path=f"mia.{b}.{name}", reason=reason)
        for b in BRANCHES
        for name, reason in figures.membership[b].missing.items()
    ]
    if distance is None:
        missing.append(Missing(path="distance_to_retrained", reason="no retrained model"))
    missing += [
        Missing(path=f"branches.{b}.groups.{g}.{field}", reason=_why(branches[b].groups[g], field))
        for b in BRANCHES
        for g in GROUPS
        for field in ("auc", "f1", "accuracy", "ce_mean", "ce_median")
        if getattr(branches[b].groups[g], field) is None
    ]

    return ModelResult(
        forget=groups["forget"],
        retain=groups["retain"],
        never_seen=groups["never_seen"],
        test=groups["test"],
        branches=branches,
        mia={b: branch_mia(figures.membership[b]) for b in BRANCHES},
        mia_by_site={
            site: {b: branch_mia(attacks[b]) for b in BRANCHES} for site, attacks in figures.membership_by_site.items()
        },
        loss_histograms={
            b: {
                g: Histogram(edges=list(h.edges), counts=list(h.counts))
                for g in GROUPS
                if (h := figures.groups[g][b].losses).counts
            }
            for b in BRANCHES
        },
        test_auc_by_site={site: macro_auc(aucs) for site, aucs in figures.test_by_site.items()},
        distance_to_retrained=distance,
        missing=missing,
        digest=digest,
    )


def _why(group: GroupMetrics, field: str) -> str:
    if not group.patients:
        return "no patients"
    if field == "auc":
        return "no site has two classes in this group"
    return "too few patients at each site for the bins to say where the median lies"


def group_metrics(utility: Utility) -> GroupMetrics:
    """Utility of one group on one branch."""
    return GroupMetrics(
        auc=macro_auc(utility),
        f1=macro_f1(utility),
        accuracy=accuracy(utility),
        ce_mean=mean_loss(utility),
        ce_median=utility.loss_median,
        patients=utility.patients,
    )


def branch_mia(attack: Membership) -> BranchMia:
    """Membership on one branch with its intervals."""
    return BranchMia(
        auc=attack.auc,
        ci90=interval(attack, 0.90),
        ci95=interval(attack, 0.95),
        ks=attack.ks,
        ks_p=attack.ks_p,
        calibrated=attack.calibrated,
        svc=attack.svc,
        tpr_at_1pct_fpr=attack.tpr_at_1pct_fpr,
    )


def round_record(model: ModelName, record: Round) -> RoundRecord:
    """One line of the history."""
    membership = {} if record.selection is None else record.selection.membership
    return RoundRecord(
        model=model,
        phase=record.phase,  # type: ignore[arg-type]  # pydantic checks it
        round=record.round,
        train_loss=record.train_loss,
        validation_auc=record.validation_auc,
        validation_ce=record.validation_loss,
        # Without forget patients there is no AUC, as in training before anybody has revoked.
        calibration_auc={b: m.auc for b, m in membership.items() if m.forget_patients},
        seconds=record.seconds,
        kept=record.kept,
    )
