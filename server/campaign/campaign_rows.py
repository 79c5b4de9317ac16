"""Rows of campaigns within a transaction: found, locked, checked for their owner, moved to another state."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from common.errors import InputError, RefusedError
from server.database import CampaignRow, EventRow, PhaseRow
from server.rounds.states import WAYS, CampaignState


class GivenUpError(RefusedError):
    """This run of the campaign may write no more: it was cancelled, or another run has taken it over."""


def phase_row(number: int, step: str) -> Any:
    """Selects the row of a finished step."""
    return select(PhaseRow).where(PhaseRow.campaign == number, PhaseRow.step == step)


def locked_row(session: Session, number: int) -> CampaignRow:
    """The row of a campaign, locked until the transaction ends.

    Raises:
        InputError: there is no campaign of that number.
    """
    # PostgreSQL locks the row. On SQLite the transaction is the only writer anyway: it began with `begin immediate`.
    row = session.get(CampaignRow, number, with_for_update=True)
    if row is None:
        raise InputError(f"there is no campaign {number}", remedy="see `fedforget-server campaign list`")
    return row


def owned_row(session: Session, number: int, attempt: int) -> CampaignRow:
    """The locked row of a campaign that `attempt` still owns.

    Raises:
        GivenUpError: another run took it over, or it has ended.
    """
    row = locked_row(session, number)
    if row.attempt != attempt or row.open is None:
        raise GivenUpError(f"campaign {number} is {row.state}, attempt {attempt} may write no more")
    return row


def add_event(session: Session, at: datetime, number: int, kind: str, detail: str, site: str | None = None) -> None:
    """Add a line to the record of a campaign."""
    session.add(EventRow(at=at, campaign=number, site=site, kind=kind, detail=detail))


def move(session: Session, row: CampaignRow, state: CampaignState, reason: str, now: datetime) -> None:
    """Bring a campaign into another state, and its record a line.

    Raises:
        RefusedError: no way leads there from where it is.
    """
    if state not in WAYS[CampaignState(row.state)]:
        raise RefusedError(f"campaign {row.number} is {row.state} and cannot become {state}")

    row.state = state
    row.reason = reason
    row.changed = now
    if state.ended:
        # Null, not false: the column is unique, and any number of nulls may stand in it.
        row.open = None
    add_event(session, now, row.number, "state", f"{state}: {reason}" if reason else str(state))
