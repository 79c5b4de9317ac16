"""What the pages of the coordinator's console share: the open folder, who did what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from common.platform.console.sign_in.events import Event
from common.platform.sql import reading, transaction
from server.campaign.context import CoordinatorContext
from server.database import CampaignRow, EventRow, SiteRow
from server.rounds.exchanges.progress import PROGRESS_FILE

if TYPE_CHECKING:
    from common.platform.console.page import Visit
    from common.platform.console.sign_in.accounts import Accounts

OPERATOR = "operator"
AUDITOR = "auditor"
ROLES = {OPERATOR: "Operator", AUDITOR: "Auditor"}
EVERYBODY = frozenset(ROLES)
OPERATORS = frozenset({OPERATOR})


@dataclass(slots=True)
class Desk:
    """The coordinator's desk.

    Attributes:
        house: the open folder; the console cannot use its keys.
        accounts: of the console itself; None: only the provider's people sign in.
    """

    house: CoordinatorContext
    accounts: Accounts | None = None

    def with_present_settings(self) -> CoordinatorContext:
        """The folder with its settings of this moment, as a command would read them, for what a person plans."""
        return replace(self.house, settings=self.house.folder.settings())

    def record(self, event: Event) -> None:
        """Keep what somebody did among the coordinator's events, which its log commits to."""
        facts = ", ".join(f"{'by' if name == 'how' else name} {value}" for name, value in event.details.items())
        who = f"{event.name[:100]} ({event.subject[:100]} at {event.issuer[:100]})"
        row = EventRow(at=event.at, kind=f"console-{event.kind}", detail=f"{who}{': ' if facts else ''}{facts}")

        with transaction(self.house.engine) as session:
            session.add(row)

    def did(self, visit: Visit, kind: str, **details: str) -> None:
        """Keep what the person of a visit is about to do; if that fails, it is not done."""
        person = visit.person
        visit.console.record(kind, visit.now, (*person.key, person.name), **details)

    def newest(self) -> object:
        """A value that differs after a change that a page shows."""
        with reading(self.house.engine) as session:
            return (
                session.scalar(select(func.max(EventRow.id))),
                session.scalar(select(func.max(CampaignRow.changed))),
                session.scalar(select(func.sum(SiteRow.pending))),
                _progress_marks(self.house, session),
                _marks(self.house.folder.qualifications, "*/standing.json"),
            )


def _progress_marks(house: CoordinatorContext, session: Session) -> object:
    """When the open campaign last reported its progress."""
    number = session.scalars(select(CampaignRow.number).where(CampaignRow.open.is_(True))).first()
    if number is None:
        return None
    return _marks(house.store.work, PROGRESS_FILE), _marks(house.store.folder(number), "*")


def _marks(folder: Path, pattern: str) -> object:
    """When the files of a folder were written."""
    try:
        return sorted((path.name, path.stat().st_mtime_ns) for path in folder.glob(pattern))
    except OSError:
        return None
