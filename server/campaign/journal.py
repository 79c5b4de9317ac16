"""The journal of a campaign, in the coordinator's database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from common.errors import CheckpointError, InputError, RefusedError
from common.platform.sql import transaction
from server.database import CampaignRow, EventRow, PhaseRow
from server.rounds.journal import B, State
from server.rounds.states import CampaignState

if TYPE_CHECKING:
    from torch import Tensor

    from server.campaign.store import CampaignStore


class GivenUpError(RefusedError):
    """This run of the campaign may write no more: it was cancelled, or another run has taken it over."""


@dataclass(frozen=True, slots=True)
class DatabaseJournal:
    """The journal of one campaign, as one attempt may write it. Raises `GivenUpError` once it may not."""

    store: CampaignStore
    number: int
    attempt: int

    def get(self, step: str, kind: type[B]) -> tuple[B, State] | None:
        """See `Journal`. A step whose weights were lost or damaged is done again."""
        with transaction(self.store.engine) as session:
            owned_row(session, self.number, self.attempt)
            row = session.scalars(phase_row(self.number, step)).first()

        if row is None:
            return None
        weights: State = {}
        if row.weights:
            from server.rounds.step_weights import read_weights  # noqa: PLC0415 - torch, which listings do not need

            try:
                weights = read_weights(self._file(step), row.weights)
            except CheckpointError:
                self.note("redone", f"the weights of step {step} are lost or damaged")
                return None

        return kind.model_validate(row.body), weights

    def put(self, step: str, body: BaseModel, weights: Mapping[str, Tensor] | None = None) -> None:
        """See `Journal`."""
        digest = ""

        if weights:
            from server.rounds.step_weights import write_weights  # noqa: PLC0415 - see `get`

            digest = write_weights(self._file(step), weights)

        with transaction(self.store.engine) as session:
            owned_row(session, self.number, self.attempt)
            row = session.scalars(phase_row(self.number, step)).first()
            if row is None:
                row = PhaseRow(campaign=self.number, step=step)
                session.add(row)

            row.finished = self.store.clock()
            row.weights = digest
            row.body = body.model_dump(mode="json")

    def enter(self, state: CampaignState, reason: str = "") -> None:
        """See `Journal`."""
        with transaction(self.store.engine) as session:
            row = owned_row(session, self.number, self.attempt)
            if session.scalars(phase_row(self.number, f"state:{state}")).first():
                return
            self.store._move(session, row, state, reason)
            body = {"reason": reason}
            session.add(PhaseRow(campaign=self.number, step=f"state:{state}", finished=row.changed, body=body))

    def entered(self, state: CampaignState) -> str | None:
        """The reason for which the campaign came into this state, None if it has not been there."""
        with transaction(self.store.engine) as session:
            row = session.scalars(phase_row(self.number, f"state:{state}")).first()
        return None if row is None else str(row.body.get("reason", ""))

    def note(self, kind: str, detail: str, site: str | None = None) -> None:
        """See `Journal`."""
        with transaction(self.store.engine) as session:
            add_event(session, self.store.clock(), self.number, kind, detail, site)

    def _file(self, step: str) -> Path:
        return self.store.folder(self.number) / f"{step.replace(':', '-')}.safetensors"


def phase_row(number: int, step: str) -> Any:
    """Selects the row of a finished step."""
    return select(PhaseRow).where(PhaseRow.campaign == number, PhaseRow.step == step)


def locked_row(session: Session, number: int) -> CampaignRow:
    """The row of a campaign, locked until the transaction ends.

    Raises:
        InputError: there is no campaign of that number.
    """
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
