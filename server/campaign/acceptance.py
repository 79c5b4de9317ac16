"""What the rule of a campaign could have seen, from the figures that its candidate was judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.evidence.acceptance import Acceptance, Figure, acceptance
from server.settings import Terms

if TYPE_CHECKING:
    from server.campaign.store import CampaignStore

LEVEL = 0.95


def acceptance_of(store: CampaignStore, number: int) -> Acceptance | None:
    """Of a campaign; None where no candidate was audited against patients who are to be forgotten."""
    audit = next((phase.body for phase in store.phases(number) if phase.step == "audit"), None)
    if not audit:
        return None
    from common.learning.evaluation.figures import FederationFigures  # noqa: PLC0415 - scipy, where there is something to say
    from common.learning.evaluation.merge import interval  # noqa: PLC0415

    found = FederationFigures.model_validate(audit).membership
    if not any(member.forget_patients for member in found.values()):
        return None
    figures = [
        Figure(branch, member.auc, *limits, LEVEL, member.forget_patients)
        for branch, member in found.items()
        if member.auc is not None and member.forget_patients and (limits := interval(member, LEVEL)) is not None
    ]
    terms = Terms.model_validate(store.get(number).settings)

    return acceptance(figures, terms.experiment.decision.auc_margin)
