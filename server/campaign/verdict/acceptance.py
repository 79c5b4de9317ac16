"""The outcome of a campaign, what it rests on, and what its own audit could have seen; from its journal alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from common.evidence.outcomes.acceptance import Acceptance, Figure, acceptance
from common.evidence.outcomes.grounds import Grounds, Outcome
from server.campaign.store import CampaignStore
from server.rounds.states import CampaignState
from server.settings import Terms

if TYPE_CHECKING:
    from server.database import CampaignRow

LEVEL = 0.95


class Decided(BaseModel):
    """How a campaign ended by which patients were to be forgotten."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    outcome: Outcome
    grounds: Grounds | None = None


def decided(row: CampaignRow, verdict: Mapping[str, Any] | None) -> Decided | None:
    """From a campaign and its last verdict; None where it has no end, or published what nobody was forgotten by.

    A candidate that was accepted and then stopped by a veto ended as rejected.
    """
    decision = None if verdict is None else Decided.model_validate(verdict)
    if row.state == CampaignState.PUBLISHED:
        return decision
    outcome_of_state: dict[str, Outcome] = {
        CampaignState.REJECTED: "rejected",
        CampaignState.INCONCLUSIVE: "inconclusive",
    }
    if row.kind == "training" or row.state not in outcome_of_state:
        return None
    return Decided(outcome=outcome_of_state[row.state], grounds=decision.grounds if decision else None)


def outcome_of(store: CampaignStore, number: int) -> Decided | None:
    """As `decided`, of one campaign."""
    return decided(store.get(number), store.verdicts(number).get(number))


def acceptance_of(store: CampaignStore, number: int) -> Acceptance | None:
    """Of a campaign; None where no candidate was audited against patients who are to be forgotten."""
    decision = outcome_of(store, number) or Decided(outcome="accepted")
    lines = None if decision.grounds is None else acceptance((), None, decision.outcome, decision.grounds)
    audit = next((phase.body for phase in store.phases(number) if phase.step in {"audit", "audit:exact"}), None)
    if not audit or (decision.grounds is not None and decision.grounds.rung == "retrain"):
        return lines
    from common.learning.evaluation.figures import FederationFigures  # noqa: PLC0415 - scipy, where there is something to say
    from common.learning.evaluation.merge import interval  # noqa: PLC0415

    membership = FederationFigures.model_validate(audit).membership
    if not any(member.forget_patients for member in membership.values()):
        return lines
    figures = [
        Figure(branch, member.auc, *limits, LEVEL, member.forget_patients)
        for branch, member in membership.items()
        if member.auc is not None and member.forget_patients and (limits := interval(member, LEVEL)) is not None
    ]
    terms = Terms.model_validate(store.get(number).settings)

    return acceptance(figures, terms.experiment.decision.auc_margin, decision.outcome, decision.grounds)
