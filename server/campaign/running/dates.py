"""Due dates as a run sees them: whether one is near, and until when a retraining can wait for more revocations."""

from __future__ import annotations

from datetime import datetime, timedelta

from common.platform.sql import transaction
from server.campaign.store import CampaignStore
from server.campaign.waiting import earliest_due
from server.database import CampaignRow
from server.rounds.states import CampaignState
from server.settings import Terms

_WAITING = frozenset({CampaignState.COLLECTING, CampaignState.UNLEARNING})


def due_soon(store: CampaignStore, row: CampaignRow, terms: Terms, waits: frozenset[CampaignState] = _WAITING) -> bool:
    """Whether a due date is near while the campaign is in one of the states `waits`.

    Every waiting revocation counts, also one that arrived after the campaign was planned.
    """
    if CampaignState(store.get(row.number).state) not in waits:
        return False

    first = _first_due(store, row, terms)
    return first is not None and store.clock() >= first - timedelta(hours=terms.policy.escalate_hours)


def batch_until(store: CampaignStore, row: CampaignRow, terms: Terms) -> datetime | None:
    """When a retraining begins that further revocations can still join; None where it must begin now."""
    if terms.policy.retrain_batch == "each":
        return None

    first = _first_due(store, row, terms)
    if first is None:
        return None

    begin = first - timedelta(hours=terms.policy.lead_hours)
    return begin if begin > store.clock() else None


def _first_due(store: CampaignStore, row: CampaignRow, terms: Terms) -> datetime | None:
    with transaction(store.engine) as session:
        moments = [row.due, earliest_due(session, terms.policy)]

    return min((moment for moment in moments if moment is not None), default=None)
