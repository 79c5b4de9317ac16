"""The journal of a campaign, in the coordinator's database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel
from sqlalchemy import Engine

from common.errors import CheckpointError
from common.platform.sql import transaction
from server.campaign.campaign_rows import add_event, move, owned_row, phase_row
from server.database import PhaseRow
from server.rounds.journal import B, State
from server.rounds.states import CampaignState

if TYPE_CHECKING:
    from torch import Tensor

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class DatabaseJournal:
    """The journal of one campaign, as one attempt may write it. Raises `GivenUpError` once it may not."""

    engine: Engine
    clock: Clock
    folder: Path
    """Where its weights between two steps lie."""
    number: int
    attempt: int

    def get(self, step: str, kind: type[B]) -> tuple[B, State] | None:
        """See `Journal`. A step whose weights were lost or damaged is done again."""
        with transaction(self.engine) as session:
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

        # The file first: a row that is committed names weights that are on disk (ADR 5).
        if weights:
            from server.rounds.step_weights import write_weights  # noqa: PLC0415 - see `get`

            digest = write_weights(self._file(step), weights)

        with transaction(self.engine) as session:
            # In the transaction that writes: a run that was believed dead and is not ends here.
            owned_row(session, self.number, self.attempt)
            row = session.scalars(phase_row(self.number, step)).first()
            if row is None:
                row = PhaseRow(campaign=self.number, step=step)
                session.add(row)

            row.finished = self.clock()
            row.weights = digest
            row.body = body.model_dump(mode="json")

    def enter(self, state: CampaignState, reason: str = "") -> None:
        """See `Journal`."""
        with transaction(self.engine) as session:
            row = owned_row(session, self.number, self.attempt)
            # A run that starts again passes through the states it was in before.
            if session.scalars(phase_row(self.number, f"state:{state}")).first():
                return
            move(session, row, state, reason, self.clock())
            body = {"reason": reason}
            session.add(PhaseRow(campaign=self.number, step=f"state:{state}", finished=row.changed, body=body))

    def entered(self, state: CampaignState) -> str | None:
        """The reason for which the campaign came into this state, None if it has not been there."""
        with transaction(self.engine) as session:
            row = session.scalars(phase_row(self.number, f"state:{state}")).first()
        return None if row is None else str(row.body.get("reason", ""))

    def note(self, kind: str, detail: str, site: str | None = None) -> None:
        """See `Journal`."""
        with transaction(self.engine) as session:
            add_event(session, self.clock(), self.number, kind, detail, site)

    def _file(self, step: str) -> Path:
        return self.folder / f"{step.replace(':', '-')}.safetensors"
