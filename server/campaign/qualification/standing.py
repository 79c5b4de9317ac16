"""What a real campaign may rest on: the last qualification, if it still holds and the campaign conforms to it."""

from __future__ import annotations

from common.evidence.outcomes.grounds import Criterion, Difference, QualificationGrounds
from common.evidence.schema import time_text
from common.learning.evaluation.qualification.conformity import Conformity, Process
from common.learning.evaluation.qualification.conformity import conforms as judge
from common.learning.evaluation.qualification.rule import Qualification
from common.learning.evaluation.qualification.validity import Circumstances, lapsed
from server.campaign.qualification.result import Result

_PARTS = ("Q1", "Q2", "Q3", "Q4", "Q5")


def conforms(result: Result, distance: float, process: Process) -> Conformity:
    """Whether a campaign looks like the rehearsals, in margins and in process."""
    return judge(result.qualification.distances, distance, result.processes, process)


def qualified(
    result: Result, now: Circumstances, distance: float | None, process: Process | None, drift: str | None = None
) -> tuple[QualificationGrounds | None, tuple[str, ...]]:
    """The grounds of `accepted_qualified`; None with the reasons where a campaign cannot rest on the qualification.

    `distance` is what the forgetting site measured, `process` what the coordinator saw of the unlearning.
    """
    qualification = result.qualification
    if not qualification.qualified:
        return None, tuple(f"{finding.part}: {finding.text}" for finding in qualification.findings)
    if distance is None or process is None:
        return None, ("the campaign was not compared with fold models, or its unlearning is not on record",)
    lapse = lapsed(result.registered.plan, result.registered.circumstances, now, process.patients, drift)
    if lapse:
        return None, lapse
    conformity = conforms(result, distance, process)
    if not conformity.conforms:
        return None, tuple(f"does not conform: {reason}" for reason in conformity.reasons)

    return grounds(result, conformity), ()


def grounds(result: Result, conformity: Conformity) -> QualificationGrounds:
    """As they stand in a verdict, a manifest and a statement."""
    qualification = result.qualification
    differences = (
        Difference(name, f"{b.difference:.3f}", f"{b.low:.3f}", f"{b.high:.3f}")
        for name, b in qualification.branches.items()
    )
    return QualificationGrounds(
        id=f"q-{result.registered.digest[:12]}",
        digest=result.registered.digest,
        rehearsals=qualification.rehearsals,
        patients=max(qualification.sizes),
        controls=qualification.controls,
        margin=f"{result.registered.plan.auc_margin:.3f}",
        differences=tuple(sorted(differences, key=lambda one: one.branch)),
        criteria=criteria(qualification),
        conformity=f"{conformity.p:.3f}",
        valid_until=time_text(result.valid_until),
    )


def criteria(qualification: Qualification) -> tuple[Criterion, ...]:
    """Each part of the rule with what was found, also where it holds."""
    failures_by_part = {part: "; ".join(f.text for f in qualification.findings if f.part == part) for part in _PARTS}
    return tuple(
        Criterion(part, not failures_by_part[part], failures_by_part[part] or _held(qualification, part))
        for part in _PARTS
    )


def _held(qualification: Qualification, part: str) -> str:
    branches = qualification.branches
    match part:
        case "Q1":
            widest = max(max(abs(b.low), abs(b.high)) for b in branches.values())
            return f"no branch differs by more than {widest:.3f}"
        case "Q2":
            return f"at most {max(b.share_bound for b in branches.values()):.3f} of the patients stand out"
        case "Q3":
            blind = f"; nothing to see on {', '.join(qualification.blind)}" if qualification.blind else ""
            return f"the original model remembers, by at least {branches['fused'].original_low:.3f}{blind}"
        case "Q4":
            return f"test AUC fell by at most {max(loss.bound for loss in qualification.utility):.3f}"
        case _:
            return f"nearer to models without the patients, by at least {branches['fused'].nearer_low:.3f}"
