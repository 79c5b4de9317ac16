"""Exports of versions: to whom, and whether the recipient said that the copies are deleted (GDPR Art. 19)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, distinct, func, select
from sqlalchemy.orm import Session

from common.errors import FedForgetError, InputError
from common.platform.sql import transaction
from common.protocol.recipients import MAX_NAME
from server.database import EventRow, ExportRow, VersionRow
from server.registry.versions import OUT_OF_USE, check_usable, version_row


@dataclass(frozen=True, slots=True)
class Exports:
    """Exports of one coordinator's versions."""

    engine: Engine
    clock: Callable[[], datetime]

    @contextmanager
    def recorded(self, name: str, recipient: str) -> Iterator[None]:
        """Record an export before its files are written: a copy that nobody knows of could not be recalled.

        The record is taken back if the body raises an error of ours, which leaves no file behind.

        Raises:
            InputError: no such version, or the recipient's name is not one printable line.
            RefusedError: it is quarantined or withdrawn.
        """
        number = self._begin(name, _checked(recipient), self.clock())
        try:
            yield
        except FedForgetError:
            self._abandon(number)
            raise

    def _begin(self, name: str, recipient: str, now: datetime) -> int:
        with transaction(self.engine) as session:
            row = version_row(session, name)
            check_usable(row)
            export = ExportRow(version=name, recipient=recipient, sent=now)
            session.add(export)
            detail = f"{name} to {recipient or 'a recipient who was not named'}"
            session.add(EventRow(at=now, campaign=row.campaign, kind="exported", detail=detail))
            session.flush()
            return export.id

    def _abandon(self, number: int) -> None:
        with transaction(self.engine) as session:
            row = session.get_one(ExportRow, number)
            session.add(EventRow(at=self.clock(), kind="export-failed", detail=f"{row.version}: nothing was written"))
            session.delete(row)

    def acknowledge(self, name: str, recipient: str) -> int:
        """The recipient said that its copies of a version are deleted; returns how many exports that settles.

        Raises:
            InputError: no such version, or no export of it to this recipient is open.
        """
        recipient_name = _checked(recipient)
        now = self.clock()

        with transaction(self.engine) as session:
            campaign = version_row(session, name).campaign
            query = select(ExportRow).where(ExportRow.version == name, ExportRow.recipient == recipient_name)
            rows = session.scalars(query.where(ExportRow.purged.is_(None))).all()
            if not rows:
                raise InputError(
                    f"no copy of {name} is outstanding there",
                    where="RECIPIENT",
                    remedy=f"see `fedforget-server models show {name}`; the name must be the same",
                )
            for row in rows:
                row.purged = now
            detail = f"{name}: deleted at {recipient_name or 'a recipient who was not named'}"
            session.add(EventRow(at=now, campaign=campaign, kind="export-deleted", detail=detail))

            return len(rows)

    def of(self, name: str) -> Sequence[ExportRow]:
        """The exports of a version, earliest first."""
        with transaction(self.engine) as session:
            return session.scalars(select(ExportRow).where(ExportRow.version == name).order_by(ExportRow.id)).all()

    def outstanding(self, name: str) -> list[str]:
        """Recipients of a version who have not said that their copies are deleted, each once."""
        return list(dict.fromkeys(row.recipient for row in self.of(name) if row.purged is None))


def to_recall(session: Session) -> dict[str, int]:
    """Versions that nobody may use any more, with the number of recipients who have not said that their copies are
    deleted; the earliest version first.

    Hospitals delete their copies by themselves. Whoever received an export must be told by a person (GDPR Art. 19).
    """
    query = (
        select(ExportRow.version, func.count(distinct(ExportRow.recipient)))
        .join(VersionRow, VersionRow.name == ExportRow.version)
        .where(VersionRow.state.in_(OUT_OF_USE), ExportRow.purged.is_(None))
        .group_by(ExportRow.version)
        .order_by(ExportRow.version)
    )
    return {row[0]: row[1] for row in session.execute(query)}


def _checked(recipient: str) -> str:
    text = recipient.strip()
    if len(text) > MAX_NAME or not text.isprintable():
        raise InputError(f"not one line of at most {MAX_NAME} characters", where="recipient", remedy="shorten it")
    return text
