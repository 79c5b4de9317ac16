"""Qualifications in words and values, for the command line and the console, and how a person asks for one."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from common.errors import CohortError, InputError
from server.campaign.context import CoordinatorContext
from server.campaign.qualification.register import rehearsing_sites
from server.campaign.qualification.standing import criteria
from server.campaign.qualification.store import QualificationStore


class _Collected(BaseModel):
    """What the page of a plan needs of `server.rounds.unlearning.base.Collected`, which imports torch."""

    registered: dict[str, dict[str, int]] = {}


def store_of(house: CoordinatorContext) -> QualificationStore:
    """The qualifications of a coordinator."""
    return QualificationStore(house.folder.qualifications, house.store.clock)


def lineage_of(house: CoordinatorContext) -> str | None:
    """The first version of the line that the model in use descends from; None without a model."""
    active = house.registry.active()
    return None if active is None else house.registry.lineage(active.name)[-1].name


def plan_of(house: CoordinatorContext) -> dict[str, Any]:
    """What would be registered now, what it costs, and what is missing.

    Raises:
        InputError: there is no model.
    """
    settings = house.settings.qualification
    lineage = _lineage(house)

    return {
        "rehearsals": settings.rehearsals,
        "sizes": list(settings.sizes),
        "patients": settings.patients,
        "waves": -(-settings.rehearsals // settings.wave),
        "margin": settings.auc_margin,
        "share_limit": settings.share_limit,
        "level": settings.attempt_level,
        "attempts_made": store_of(house).attempts(lineage),
        "attempts": settings.attempts,
        "lineage": lineage,
        "fold_models": house.settings.experiment.folds.audit,
        "missing": missing(house),
    }


def ask(house: CoordinatorContext) -> int:
    """Ask for a qualification of the model in use; its number.

    Raises:
        InputError: there is no model, it has no fold models, or patients are missing.
        RefusedError: another one is open, or all attempts are spent.
    """
    lineage = _lineage(house)
    if house.settings.experiment.folds.audit == 0:
        raise InputError(
            "the model in use has no audit fold models, without which no patient has a floor of their own",
            where="experiment.folds.audit",
            remedy="set it to 2 and train again",
        )
    if problem := missing(house):
        raise InputError(problem, remedy="import more patients; until then campaigns rest on their own evidence")

    return store_of(house).request(house.settings.qualification, lineage)


def missing(house: CoordinatorContext) -> str | None:
    """Which number is missing, by what the sites said last; None if none is, or they have not said anything yet."""
    for row in reversed(house.store.all()):
        body = next((phase.body for phase in house.store.phases(row.number) if phase.step == "collect"), None)
        if body:
            try:
                rehearsing_sites(house.settings.qualification, _Collected.model_validate(body).registered)
            except CohortError as error:
                return error.problem
            return None
    return None


def state_of(store: QualificationStore, number: int) -> str:
    """`open`, `stopped`, `qualified` or `not qualified`."""
    result = store.result(number)
    if result is not None:
        return "qualified" if result.qualification.qualified else "not qualified"
    return "stopped" if store.standing(number).stopped else "open"


def details(store: QualificationStore, number: int) -> dict[str, Any]:
    """Everything about one qualification."""
    request = store.requested(number)
    register = store.registered(number)
    standing = store.standing(number)
    result = store.result(number)
    values: dict[str, Any] = {
        "number": number,
        "state": state_of(store, number),
        "lineage": request.lineage,
        "register": register.digest if register else None,
        "rehearsals": request.plan.rehearsals,
        "sizes": list(request.plan.sizes),
        "waves": f"{standing.waves} of {standing.of}" if standing.of else None,
        "seconds_left": None if result or standing.stopped else standing.seconds_left,
        "waits": standing.waits or None,
        "reason": standing.stopped or None,
    }
    if result is not None:
        verdict = result.qualification
        values |= {
            "reason": "; ".join(f"{one.part}: {one.text}" for one in verdict.findings) or None,
            "patients": verdict.patients,
            "controls": verdict.controls,
            "refused": len(result.refused),
            "valid_until": result.valid_until.isoformat(),
            "criteria": {c.name: {"holds": c.holds, "finding": c.finding} for c in criteria(verdict)},
            "branches": {
                name: {"difference": b.difference, "low": b.low, "high": b.high} for name, b in verdict.branches.items()
            },
            "cost": result.cost,
        }
    return values


def _lineage(house: CoordinatorContext) -> str:
    lineage = lineage_of(house)
    if lineage is None:
        raise InputError("there is no model to rehearse with", remedy="run `fedforget-server train` first")
    return lineage
