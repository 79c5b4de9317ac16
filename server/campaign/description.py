"""A campaign in words and values, for the command line and the console; nothing in it names a patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from common.evidence.outcomes.grounds_text import outcome_text
from common.platform.sql import transaction
from server.attestation.attestation import find
from server.attestation.overruling import overruled
from server.campaign.context import CoordinatorContext
from server.campaign.progress_text import describe
from server.campaign.verdict.acceptance import acceptance_of, decided, outcome_of
from server.database import CampaignRow
from server.rounds.exchanges.progress import Progress, read_progress
from server.rounds.states import CampaignState
from server.settings import Terms


def doing(row: CampaignRow, progress: Progress | None, now: datetime) -> str:
    """What an open campaign does or waits for."""
    if row.retry_at is not None and now < row.retry_at:
        return f"waits until {row.retry_at:%H:%M:%S} UTC: {row.reason}"
    if progress is not None:
        return describe(progress, Terms.model_validate(row.settings), now)
    if row.run is None:
        return "waits for the coordinator to start it"
    return "its run is starting"


def summary(row: CampaignRow, verdict: Mapping[str, Any] | None) -> dict[str, Any]:
    """A row of the list; `verdict` is the campaign's last one."""
    decision_text = decided(row, verdict)
    return {
        "number": row.number,
        "kind": row.kind,
        "state": row.state,
        "outcome": decision_text.outcome if decision_text else None,
        "reason": row.reason,
        "from": row.parent,
        "result": row.result,
        "changed": row.changed,
        "due": row.due,
    }


def details(house: CoordinatorContext, number: int) -> dict[str, Any]:
    """All about a campaign."""
    row = house.store.get(number)
    with transaction(house.engine) as session:
        attestation = find(session, number)
        against = overruled(session, number)
    grounds_of_outcome = acceptance_of(house.store, number)
    outcome_of_campaign = outcome_of(house.store, number)
    progress = None if CampaignState(row.state).ended else read_progress(house.store.work, number, row.attempt)

    return {
        **summary(row, house.store.verdicts(number).get(number)),
        "attestation": None if attestation is None else attestation.text,
        "overruled": None if against is None else against.text,
        "warning": grounds_of_outcome.warning or None if grounds_of_outcome else None,
        "acceptance": list(grounds_of_outcome.lines) if grounds_of_outcome else None,
        "decision": None
        if outcome_of_campaign is None
        else outcome_text(outcome_of_campaign.outcome, outcome_of_campaign.grounds),
        "grounds": None
        if outcome_of_campaign is None or outcome_of_campaign.grounds is None
        else asdict(outcome_of_campaign.grounds),
        "attempt": row.attempt,
        "retry_at": row.retry_at,
        "progress": None if progress is None else progress.model_dump(mode="json"),
        "steps": [
            {"step": phase.step, "finished": phase.finished}
            for phase in house.store.phases(number)
            # A change of state is a phase in the database, too; people see it among the events.
            if not phase.step.startswith("state:")
        ],
        "events": [
            {"at": event.at, "kind": event.kind, "site": event.site, "detail": event.detail}
            for event in house.store.events(number)
        ],
    }
