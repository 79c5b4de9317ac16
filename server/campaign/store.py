"""Campaigns in the coordinator's database, and the journal of one of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from common.errors import CheckpointError, InputError, RefusedError
from common.platform.sql import transaction
from server.database import CampaignRow, EventRow, PhaseRow
from server.rounds.journal import B, State
from server.rounds.states import WAYS, CampaignState

if TYPE_CHECKING:
    from torch import Tensor

Clock = Callable[[], datetime]
CANDIDATE = "candidate"
OVERRULED = "overruled"
"""Steps: a candidate that was not published, and that a person published it all the same."""
LADDER = "ladder"
"""Step: the verdict on a campaign that no rung could have carried, so that nothing was unlearned."""
BATCHED = "batched"
"""Step: the retraining waits for further revocations."""
VERDICTS = ("verdict:retrained", "verdict:exact", "verdict", LADDER)
"""Steps with a verdict on what patients were to be forgotten by; the last one that a campaign came to stands first."""


class GivenUpError(RefusedError):
    """This run of the campaign may write no more: it was cancelled, or another run has taken it over."""


@dataclass(frozen=True, slots=True)
class CampaignStore:
    """All campaigns."""

    engine: Engine
    work: Path
    clock: Clock

    def plan(
        self,
        kind: str,
        settings: Mapping[str, Any],
        *,
        parent: str | None,
        due: datetime | None,
        reason: str,
        sites: Collection[str] | None = None,
    ) -> int:
        """Begin a campaign and return its number; it answers the revocations of `sites`, or of all without them.

        Raises:
            RefusedError: another one is open.
        """
        now = self.clock()
        row = CampaignRow(
            kind=kind,
            state=CampaignState.PLANNED,
            reason=reason,
            parent=parent,
            created=now,
            changed=now,
            due=due,
            open=True,
            settings=dict(settings),
            sites=None if sites is None else sorted(sites),
        )

        try:
            with transaction(self.engine) as session:
                session.add(row)
                session.flush()
                session.add(EventRow(at=now, campaign=row.number, kind="state", detail=f"planned: {reason}"))
                return row.number
        except IntegrityError:
            open_one = self.open()
            at = f"campaign {open_one.number} ({open_one.state})" if open_one else "another campaign"
            raise RefusedError(f"{at} is open, and two never touch the same model at once") from None

    def get(self, number: int) -> CampaignRow:
        """A campaign as it stands.

        Raises:
            InputError: there is none of that number.
        """
        with transaction(self.engine) as session:
            row = session.get(CampaignRow, number)
        if row is None:
            raise InputError(f"there is no campaign {number}", remedy="see `fedforget-server campaign list`")
        return row

    def all(self) -> Sequence[CampaignRow]:
        """In order of their numbers."""
        with transaction(self.engine) as session:
            return session.scalars(select(CampaignRow).order_by(CampaignRow.number)).all()

    def open(self) -> CampaignRow | None:
        """The one that has not ended."""
        with transaction(self.engine) as session:
            return session.scalars(select(CampaignRow).where(CampaignRow.open.is_(True))).first()

    def events(self, number: int) -> Sequence[EventRow]:
        """What happened in a campaign, in order."""
        with transaction(self.engine) as session:
            return session.scalars(select(EventRow).where(EventRow.campaign == number).order_by(EventRow.id)).all()

    def phases(self, number: int) -> Sequence[PhaseRow]:
        """Its finished steps, in order."""
        with transaction(self.engine) as session:
            return session.scalars(select(PhaseRow).where(PhaseRow.campaign == number).order_by(PhaseRow.id)).all()

    def journal_body(self, number: int, step: str, kind: type[B]) -> B | None:
        """What a finished step left, weights aside."""
        with transaction(self.engine) as session:
            row = session.scalars(_phase(number, step)).first()
        return None if row is None else kind.model_validate(row.body)

    def verdicts(self, number: int | None = None) -> dict[int, dict[str, Any]]:
        """The last verdict of each campaign that has one, or of campaign `number` alone, as its journal holds it."""
        steps = select(PhaseRow).where(PhaseRow.step.in_(VERDICTS))
        if number is not None:
            steps = steps.where(PhaseRow.campaign == number)
        with transaction(self.engine) as session:
            rows = session.scalars(steps).all()
        rows = sorted(rows, key=lambda row: VERDICTS.index(row.step), reverse=True)

        return {row.campaign: row.body for row in rows}

    def take_up(self, number: int) -> int:
        """Give the campaign to a new run, whose attempt is returned; the run before may write no more."""
        with transaction(self.engine) as session:
            row = _locked(session, number)
            row.attempt += 1
            row.run = None
            row.retry_at = None

            return row.attempt

    def started(self, number: int, attempt: int, *, run: int, series: int) -> None:
        """Remember which Flower run an attempt is; both as `signed64`."""
        with transaction(self.engine) as session:
            row = _locked(session, number)
            if row.attempt == attempt:
                row.run = run
                row.series = series

    def retrains(self, number: int, attempt: int, parent: str | None) -> None:
        """A training turns out to forget patients: from here on it is a retraining, which replaces `parent`."""
        with transaction(self.engine) as session:
            row = self.owned(session, number, attempt)
            if row.kind == "training":
                row.kind = "retraining"
                row.parent = parent
                _event(session, self.clock(), number, "retraining", "revocations wait: the training forgets them")

    def owned(self, session: Session, number: int, attempt: int) -> CampaignRow:
        """The row of an open campaign that `attempt` may write, locked.

        Raises:
            GivenUpError: it may not.
        """
        return _owned(session, number, attempt)

    def publish(self, number: int, version: str) -> None:
        """Remember which version a campaign ended in."""
        with transaction(self.engine) as session:
            _locked(session, number).result = version

    def postpone(self, number: int, attempt: int, reason: str, until: datetime) -> None:
        """Leave the campaign where it is, with the reason, to be taken up again later."""
        with transaction(self.engine) as session:
            row = _owned(session, number, attempt)
            row.reason, row.retry_at, row.changed = reason, until, self.clock()
            _event(session, row.changed, number, "waiting", reason)

    def end(self, number: int, state: CampaignState, reason: str) -> None:
        """End a campaign from outside: `cancelled` by a person, `failed` by the watchdog."""
        with transaction(self.engine) as session:
            row = _locked(session, number)
            self._move(session, row, state, reason)
            row.attempt += 1

    def clean(self, number: int) -> None:
        """Delete the weights between its steps, which remember; all but what a person may still publish."""
        candidate_file = self.folder(number) / f"{CANDIDATE}.safetensors"
        if not candidate_file.exists() or self.get(number).state != CampaignState.REJECTED:
            shutil.rmtree(self.folder(number), ignore_errors=True)
            return

        for path in self.folder(number).iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path != candidate_file:
                path.unlink(missing_ok=True)

    def drop_candidates(self, newest: int, before: datetime) -> None:
        """Delete rejected candidates that nobody may publish any more: too old, or of before campaign `newest`."""
        for row in self.all():
            out = row.changed < before or row.number < newest
            if out and row.state == CampaignState.REJECTED and self.folder(row.number).is_dir():
                shutil.rmtree(self.folder(row.number), ignore_errors=True)

    def overrule(self, number: int, reason: str, newest: int) -> None:
        """Open a rejected campaign once more, so that its candidate is published because a person says so.

        `newest` is the campaign of the active version: a candidate of before it would take its place unseen.

        Raises:
            InputError: there is no such campaign, or no reason.
            RefusedError: it was not rejected, its candidate is gone or was not kept, or another campaign is open.
        """
        # It becomes a line of a signed statement.
        reason = " ".join(reason.split())
        if not reason:
            raise InputError("no reason", where="--reason", remedy="say why; it stands in the record")
        row = self.get(number)
        now = self.clock()
        if row.state != CampaignState.REJECTED:
            raise RefusedError(f"campaign {number} is {row.state}: only a rejected one can be overruled")
        if not (self.folder(number) / f"{CANDIDATE}.safetensors").exists() or number < newest:
            raise RefusedError(f"campaign {number} has no candidate that may still be published")
        try:
            with transaction(self.engine) as session:
                row = _locked(session, number)
                is_training = row.kind != "unlearning" or session.scalars(_phase(number, "state:retraining")).first()
                row.state = CampaignState.RETRAINING if is_training else CampaignState.DECIDING
                row.open = True
                row.retry_at = None
                row.run = None
                row.tries = 0
                row.changed = now
                row.reason = f"overruled: {reason}"
                session.add(PhaseRow(campaign=number, step=OVERRULED, finished=now, body={"reason": reason}))
                _event(session, now, number, "overruled", reason)
        except IntegrityError:
            raise RefusedError("another campaign is open, or this one was overruled before") from None

    def folder(self, number: int) -> Path:
        """Where its weights between two steps lie."""
        return self.work / str(number)

    def journal(self, number: int, attempt: int) -> DatabaseJournal:
        """What an attempt reads and writes."""
        return DatabaseJournal(self, number, attempt)

    def _move(self, session: Session, row: CampaignRow, state: CampaignState, reason: str) -> None:
        if state not in WAYS[CampaignState(row.state)]:
            raise RefusedError(f"campaign {row.number} is {row.state} and cannot become {state}")
        row.state, row.reason, row.changed = state, reason, self.clock()
        if state.ended:
            row.open = None
        _event(session, row.changed, row.number, "state", f"{state}: {reason}" if reason else str(state))


@dataclass(frozen=True, slots=True)
class DatabaseJournal:
    """The journal of one campaign, as one attempt may write it. Raises `GivenUpError` once it may not."""

    store: CampaignStore
    number: int
    attempt: int

    def get(self, step: str, kind: type[B]) -> tuple[B, State] | None:
        """See `Journal`. A step whose weights were lost or damaged is done again."""
        with transaction(self.store.engine) as session:
            _owned(session, self.number, self.attempt)
            row = session.scalars(_phase(self.number, step)).first()

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
            _owned(session, self.number, self.attempt)
            row = session.scalars(_phase(self.number, step)).first()
            if row is None:
                row = PhaseRow(campaign=self.number, step=step)
                session.add(row)

            row.finished = self.store.clock()
            row.weights = digest
            row.body = body.model_dump(mode="json")

    def enter(self, state: CampaignState, reason: str = "") -> None:
        """See `Journal`."""
        with transaction(self.store.engine) as session:
            row = _owned(session, self.number, self.attempt)
            if session.scalars(_phase(self.number, f"state:{state}")).first():
                return
            self.store._move(session, row, state, reason)
            body = {"reason": reason}
            session.add(PhaseRow(campaign=self.number, step=f"state:{state}", finished=row.changed, body=body))

    def entered(self, state: CampaignState) -> str | None:
        """The reason for which the campaign came into this state, None if it has not been there."""
        with transaction(self.store.engine) as session:
            row = session.scalars(_phase(self.number, f"state:{state}")).first()
        return None if row is None else str(row.body.get("reason", ""))

    def note(self, kind: str, detail: str, site: str | None = None) -> None:
        """See `Journal`."""
        with transaction(self.store.engine) as session:
            _event(session, self.store.clock(), self.number, kind, detail, site)

    def _file(self, step: str) -> Path:
        return self.store.folder(self.number) / f"{step.replace(':', '-')}.safetensors"


def _phase(number: int, step: str) -> Any:
    return select(PhaseRow).where(PhaseRow.campaign == number, PhaseRow.step == step)


def _locked(session: Session, number: int) -> CampaignRow:
    row = session.get(CampaignRow, number, with_for_update=True)
    if row is None:
        raise InputError(f"there is no campaign {number}", remedy="see `fedforget-server campaign list`")
    return row


def _owned(session: Session, number: int, attempt: int) -> CampaignRow:
    row = _locked(session, number)
    if row.attempt != attempt or row.open is None:
        raise GivenUpError(f"campaign {number} is {row.state}, attempt {attempt} may write no more")
    return row


def _event(session: Session, at: datetime, number: int, kind: str, detail: str, site: str | None = None) -> None:
    session.add(EventRow(at=at, campaign=number, site=site, kind=kind, detail=detail))
