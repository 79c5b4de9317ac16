"""What the pages of the site's console share: the open ledger, the list of receipts, who did what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from client.console.index import Index
from client.evidence.console_events import add_event
from client.evidence.event_log import SiteLog
from client.revocations.ledger import Ledger
from client.revocations.rows.ledger_tables import RevocationRow
from client.settings import SiteFolder, SiteSettings
from common.errors import InputError
from common.platform.actor import same_person
from common.platform.console.sign_in.events import Event
from common.platform.sql import reading

if TYPE_CHECKING:
    from common.platform.console.page import Visit
    from common.platform.console.sign_in.accounts import Accounts

STEWARD = "steward"
APPROVER = "approver"
AUDITOR = "auditor"
IT = "it"
ROLES = {STEWARD: "Data steward", APPROVER: "Approver", AUDITOR: "Auditor", IT: "IT"}
EVERYBODY = frozenset(ROLES)
OFFICE = frozenset({STEWARD, APPROVER})
READERS = frozenset({STEWARD, APPROVER, AUDITOR})

PURPOSES = {
    "answer": "The patient asks what became of their request",
    "check": "Check that the right patient was registered",
    "decide": "Decide which patient an identifier means",
    "letter": "Address a letter",
    "authority": "A question of a supervisory authority or a court",
}
"""Why somebody looks at a patient; kept on record."""
_WORD = re.compile(r"[^\s,;()]+")


@dataclass(slots=True)
class Desk:
    """The desk of one site.

    Attributes:
        ledger: open while the console runs.
        accounts: of the console itself; None: only the provider's people sign in.
    """

    folder: SiteFolder
    settings: SiteSettings
    ledger: Ledger
    index: Index
    accounts: Accounts | None = None

    @property
    def log(self) -> SiteLog:
        """The site's log, of which the console cannot use the key."""
        return SiteLog(self.folder, self.ledger.engine, self.ledger.clock)

    def record(self, event: Event) -> None:
        """Keep what somebody did; the log follows."""
        person = (event.issuer, event.subject, event.name)
        add_event(self.ledger.engine, event.at, event.kind, person, event.details)

    def saw(self, visit: Visit, kind: str, purpose: str, **details: str) -> None:
        """Keep that somebody is about to see a patient, and why; without a purpose nothing is shown.

        Raises:
            InputError: no purpose was chosen.
        """
        if purpose not in PURPOSES:
            raise InputError("Choose why you need to see this.")
        person = visit.person
        # On record before anything is shown.
        visit.console.record(kind, visit.now, (*person.key, person.name), purpose=purpose, **details)

    def own(self, visit: Visit, receipts: Sequence[str]) -> frozenset[str]:
        """Those of the receipts that the person of a visit recorded, and so cannot approve."""
        row = RevocationRow
        by_them = row.identity.startswith(same_person(visit.person.actor.identity), autoescape=True)
        query = select(row.receipt).where(row.receipt.in_(receipts), by_them)
        with reading(self.ledger.engine) as session:
            return frozenset(session.scalars(query.distinct()))

    def check_text(self, text: str) -> str:
        """Refuse a text that names a patient of the site: it stays on record, and others read it.

        Raises:
            InputError: a word of it is an identifier.
        """
        for word in _WORD.findall(text):
            if any(char.isdigit() for char in word) and self.ledger.knows(word.strip(".:!?\"'")):
                raise InputError("The text names a patient. Write it without an identifier.")
        return text
