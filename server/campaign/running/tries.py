"""Tries of an open campaign that failed: each is on record, the next one waits longer, and their number has an end."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from common.platform.sql import transaction
from server.campaign.campaign_rows import owned_row
from server.campaign.store import CampaignStore
from server.database import CampaignRow, PhaseRow
from server.rounds.states import CampaignState
from server.settings import PolicyConfig

LONGEST = timedelta(hours=6)
"""Between two tries."""


def backoff(failures: int, first: timedelta, longest: timedelta = LONGEST) -> timedelta:
    """How long to wait after so many failures in a row: `first`, and twice as long after each."""
    delay: timedelta = first * 2 ** min(max(failures - 1, 0), 30)
    return min(longest, delay)


def failed_before(store: CampaignStore, number: int) -> int:
    """Failed tries in a row of an open campaign, since its last finished step."""
    with transaction(store.engine) as session:
        row = session.get_one(CampaignRow, number)
        return row.tries if row.progress == _finished(session, number) else 0


def put_off(
    store: CampaignStore, number: int, attempt: int, reason: str, policy: PolicyConfig, first: timedelta | None = None
) -> bool:
    """Take down a failed try and leave the campaign to the next one; whether it ended because that was the last.

    The second try comes after `first`, by default after the policy's `retry_minutes`.

    Raises:
        GivenUpError: another run has taken it over, or it was cancelled.
    """
    with transaction(store.engine) as session:
        row = owned_row(session, number, attempt)
        tries_before = _finished(session, number)
        # A finished step is progress, after which the count begins anew.
        row.tries = row.tries + 1 if row.progress == tries_before else 1
        row.progress = tries_before
        tries = row.tries

    if tries >= policy.max_tries:
        store.end(number, CampaignState.FAILED, f"given up after {tries} tries without a finished step: {reason}")
        store.clean(number)
        return True

    wait = backoff(tries, timedelta(minutes=policy.retry_minutes) if first is None else first)
    store.postpone(number, attempt, reason, store.clock() + wait)

    return False


def _finished(session: Session, number: int) -> int:
    """Finished steps; a change of state is none."""
    steps = select(func.count()).where(PhaseRow.campaign == number, ~PhaseRow.step.startswith("state:"))
    return session.scalar(steps) or 0
