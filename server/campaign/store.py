"""Campaigns in the coordinator's database, and the journal of one of them."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError

from common.errors import InputError, RefusedError
from common.platform.sql import transaction
from server.campaign.campaign_rows import add_event, locked_row, move, owned_row, phase_row
from server.campaign.journal import Clock, DatabaseJournal
from server.database import CampaignRow, EventRow, PhaseRow
from server.rounds.journal import B
from server.rounds.states import CampaignState

CANDIDATE = "candidate"
OVERRULED = "overruled"
"""Steps: a candidate that was not published, and that a person published it all the same."""
LADDER = "ladder"
"""Step: the verdict on a campaign that no rung could have carried, so that nothing was unlearned."""
BATCHED = "batched"
"""Step: the retraining waits for further revocations."""
VERDICTS = ("verdict:retrained", "verdict:exact", "verdict", LADDER)
"""Steps with a verdict on what patients were to be forgotten by; the last one that a campaign came to stands first."""


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

        # The unique column `open` decides, and no query before it: two processes may plan at the same time.
        try:
            with transaction(self.engine) as session:
                session.add(row)
                session.flush()
                session.add(EventRow(at=now, campaign=row.number, kind="state", detail=f"planned: {reason}"))
                return row.number
        except IntegrityError:
            open_one = self.open()
            at = f"campaign {open_one.number} ({open_one.state})" if open_one else "another campaign"
            raise RefusedError(f"{at} is open, and only one campaign may change the model at a time") from None

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
            row = session.scalars(phase_row(number, step)).first()
        return None if row is None else kind.model_validate(row.body)

    def verdicts(self, number: int | None = None) -> dict[int, dict[str, Any]]:
        """The last verdict of each campaign that has one, or of campaign `number` alone, as its journal holds it."""
        steps = select(PhaseRow).where(PhaseRow.step.in_(VERDICTS))
        if number is not None:
            steps = steps.where(PhaseRow.campaign == number)
        with transaction(self.engine) as session:
            rows = session.scalars(steps).all()
        # Later entries replace earlier ones, so that the verdict that stands first in `VERDICTS` has the last word.
        rows = sorted(rows, key=lambda row: VERDICTS.index(row.step), reverse=True)

        return {row.campaign: row.body for row in rows}

    def take_up(self, number: int) -> int:
        """Give the campaign to a new run, whose attempt is returned; the run before may write no more."""
        with transaction(self.engine) as session:
            row = locked_row(session, number)
            row.attempt += 1
            row.run = None
            row.retry_at = None

            return row.attempt

    def started(self, number: int, attempt: int, *, run: int, series: int) -> None:
        """Remember which Flower run an attempt is; both as `signed64`."""
        with transaction(self.engine) as session:
            row = locked_row(session, number)
            # A run that was taken over while it started must not write its id over its successor's.
            if row.attempt == attempt:
                row.run = run
                row.series = series

    def retrains(self, number: int, attempt: int, parent: str | None) -> None:
        """A training turns out to forget patients: from here on it is a retraining, which replaces `parent`."""
        with transaction(self.engine) as session:
            row = owned_row(session, number, attempt)
            if row.kind == "training":
                row.kind = "retraining"
                row.parent = parent
                add_event(session, self.clock(), number, "retraining", "revocations wait: the training forgets them")

    def publish(self, number: int, version: str) -> None:
        """Remember which version a campaign ended in."""
        with transaction(self.engine) as session:
            locked_row(session, number).result = version

    def postpone(self, number: int, attempt: int, reason: str, until: datetime) -> None:
        """Leave the campaign where it is, with the reason, to be taken up again later."""
        with transaction(self.engine) as session:
            row = owned_row(session, number, attempt)
            row.reason, row.retry_at, row.changed = reason, until, self.clock()
            add_event(session, row.changed, number, "waiting", reason)

    def end(self, number: int, state: CampaignState, reason: str) -> None:
        """End a campaign from outside: `cancelled` by a person, `failed` by the watchdog."""
        with transaction(self.engine) as session:
            row = locked_row(session, number)
            move(session, row, state, reason, self.clock())
            # A run that is still alive ends at its next write.
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
            raise InputError("no reason", where="--reason", remedy="say why; the reason is recorded")
        row = self.get(number)
        now = self.clock()
        if row.state != CampaignState.REJECTED:
            raise RefusedError(f"campaign {number} is {row.state}: only a rejected one can be overruled")
        if not (self.folder(number) / f"{CANDIDATE}.safetensors").exists() or number < newest:
            raise RefusedError(f"campaign {number} has no candidate that may still be published")
        try:
            with transaction(self.engine) as session:
                row = locked_row(session, number)
                is_training = row.kind != "unlearning" or session.scalars(phase_row(number, "state:retraining")).first()
                # Not by `move`: no way leads out of an end but this one. Both states are followed by `published`.
                row.state = CampaignState.RETRAINING if is_training else CampaignState.DECIDING
                row.open = True
                row.retry_at = None
                row.run = None
                row.tries = 0
                row.changed = now
                row.reason = f"overruled: {reason}"
                session.add(PhaseRow(campaign=number, step=OVERRULED, finished=now, body={"reason": reason}))
                add_event(session, now, number, "overruled", reason)
        except IntegrityError:
            raise RefusedError("another campaign is open, or this one was overruled before") from None

    def folder(self, number: int) -> Path:
        """Where its weights between two steps lie."""
        return self.work / str(number)

    def journal(self, number: int, attempt: int) -> DatabaseJournal:
        """What an attempt reads and writes."""
        return DatabaseJournal(self.engine, self.clock, self.folder(number), number, attempt)
