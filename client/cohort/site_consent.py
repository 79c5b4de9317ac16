"""The ledger for a `Site`: by identifiers of its cohort, and cheap enough to ask before every batch."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property

from client.cohort.participation import first_use, fixed_cohort_in, last_uses
from client.revocations.access import Access, open_campaigns, write_closed, write_opened
from client.revocations.ledger import Ledger
from client.revocations.ledger_queries import now_utc
from client.revocations.opening import open_ledger
from client.revocations.revocation import (
    OPEN,
    TO_FORGET,
    Receipt,
    Request,
    RevocationStatus,
    Scope,
    Source,
    State,
    Waiting,
)
from client.revocations.rows.ledger_rows import of_patients, standing_of
from client.revocations.rows.ledger_tables import RevocationEventRow
from client.revocations.tombstones.file import TombstoneFile
from client.revocations.tombstones.overview import has_ledger
from client.revocations.tombstones.pseudonyms import Pseudonyms
from client.revocations.tombstones.watch import TombstoneWatch
from client.revocations.workflow.campaign_steps import close, escalate, take_up
from client.settings import SiteFolder
from common.platform.sql import reading, transaction


class SiteConsent:
    """Tells which of `patients` have revoked at the site in `folder`.

    Opening it reconciles database and tombstones.

    Raises:
        CohortError: the tombstones are damaged or missing.
    """

    def __init__(self, folder: SiteFolder, patients: Collection[str]) -> None:
        self._folder = folder
        self._patients = patients
        self._tombstones = folder.tombstones
        self._watch: TombstoneWatch | None = None
        self._last: frozenset[str] = frozenset()
        self._stopped: frozenset[str] = frozenset()
        self._checked = False
        # Once in each process: later openings need not reconcile again.
        if has_ledger(folder):
            with self._ledger():
                pass

    @contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        with open_ledger(self._folder, checked=self._checked) as ledger:
            self._checked = True
            yield ledger

    @cached_property
    def _pseudonyms(self) -> Pseudonyms:
        return Pseudonyms.of_site(self._folder.pseudonym_secret)

    @cached_property
    def _names(self) -> dict[str, str]:
        return {self._pseudonyms.of(patient): patient for patient in self._patients}

    def pseudonyms(self, patients: Collection[str]) -> frozenset[str]:
        """Pseudonyms of some patients."""
        return frozenset(map(self._pseudonyms.of, patients))

    def pseudonym(self, patient: str) -> str:
        """The pseudonym of one patient."""
        return self._pseudonyms.of(patient)

    def stopped(self) -> frozenset[str]:
        """Patients who must not be used now; called before every training batch.

        Raises:
            CohortError: the tombstones are damaged or missing.
        """
        if self._watch is None:
            # Without the file nobody has revoked; the watch begins with the first revocation.
            if not self._tombstones.exists():
                return self._stopped
            self._watch = TombstoneWatch(TombstoneFile(self._tombstones, self._pseudonyms.check))

        pseudonyms_now = self._watch.now()
        # The watch returns the same object while nothing changes, so this costs nothing before each batch.
        if pseudonyms_now is not self._last:
            self._stopped = frozenset(self._names[p] for p in pseudonyms_now if p in self._names)
            self._last = pseudonyms_now

        return self._stopped

    def pending_pseudonyms(self) -> frozenset[str]:
        """Pseudonyms of patients whom the model must still forget; raises like `stopped`."""
        return self._in_states(TO_FORGET)

    def pending(self) -> frozenset[str]:
        """The same by identifier, as far as they are patients here; raises like `stopped`."""
        return frozenset(self._names[p] for p in self.pending_pseudonyms() if p in self._names)

    def done(self) -> frozenset[str]:
        """Patients whose data are no longer needed: none of their revocations is open; raises like `stopped`."""
        still = self._in_states(OPEN)
        return frozenset(patient for patient in self.stopped() if self._pseudonyms.of(patient) not in still)

    def waiting(self) -> Waiting:
        """Numbers for the coordinator."""
        if not has_ledger(self._folder):
            return Waiting(0, None)
        with self._ledger() as ledger:
            return ledger.waiting()

    def revoke(self, patients: Collection[str], received: datetime | None = None) -> Receipt:
        """Record a revocation of these patients; see `Ledger.record`."""
        number = secrets.token_hex(8)
        with self._ledger() as ledger:
            return ledger.record(Request(Source("cli", number), number, received or now_utc()), patients)

    @contextmanager
    def access(self, campaign: int) -> Iterator[Access]:
        """Open the access to the patients whom a campaign must forget, fixed at its first request if records are kept.

        Patients who revoke later wait for the next campaign.
        """
        is_fixed = bool(campaign) and self._folder.has_database
        pending = self.pending_pseudonyms()
        scopes: dict[str, set[Scope]] = defaultdict(lambda: {"all"})

        if is_fixed or pending:
            with self._ledger() as ledger, ledger.writing() as writing:
                if is_fixed:
                    pending = fixed_cohort_in(writing.session, campaign, pending, ledger.clock())
                if pending:
                    write_opened(writing.session, campaign, len(pending), ledger.clock())
                scopes.update(_scopes(of_patients(writing.session, pending)))

        access = Access(campaign, {self._names[p]: scopes[p] for p in pending if p in self._names})
        try:
            yield access
        finally:
            access.end()

    def begun(self, access: Access) -> None:
        """Record that the model begins to forget the patients of an access."""
        if access.campaign:
            with self._ledger() as ledger, ledger.writing() as writing:
                take_up(ledger, writing, access.campaign, self.pseudonyms(access.patients))

    def readmitted_during(self, campaign: int) -> frozenset[str]:
        """Readmitted patients who do not take part in this campaign because it began before."""
        if not campaign or not self._folder.has_database or not has_ledger(self._folder):
            return frozenset()
        with self._ledger() as ledger, reading(ledger.engine) as session:
            again = standing_of(session, RevocationEventRow.state == str(State.READMITTED))
            began_at = first_use(session, campaign) if again else None

        if began_at is None:
            return frozenset()
        return frozenset(self._names[s.pseudonym] for s in again if s.since >= began_at and s.pseudonym in self._names)

    def open_campaigns(self) -> dict[int, datetime]:
        """Campaigns with open access to their patients, and since when; raises like `stopped`."""
        if not self.stopped():
            return {}
        with self._ledger() as ledger, transaction(ledger.engine) as session:
            return open_campaigns(session)

    def stale_campaigns(self, before: datetime) -> frozenset[int]:
        """Campaigns with open access that have used nobody since `before`; raises like `stopped`."""
        if not (open_since := self.open_campaigns()):
            return frozenset()
        with self._ledger() as ledger:
            used = last_uses(ledger.engine, open_since)
        return frozenset(number for number, since in open_since.items() if max(since, used.get(number, since)) < before)

    def settle(self, pseudonyms: Collection[str], state: State, campaign: int, model: str, reason: str = "") -> int:
        """Settle patients after a version without them became the base; returns the number settled."""
        if not pseudonyms:
            return 0
        with self._ledger() as ledger:
            return close(ledger, pseudonyms, state, campaign=campaign, model=model, reason=reason)

    def closed(self, campaign: int, purged: dict[str, int]) -> None:
        """Record that a campaign no longer reads its patients; escalates those whom it left waiting."""
        with self._ledger() as ledger:
            escalate(ledger, campaign, "the campaign ended without a version that has forgotten")
            with ledger.writing() as writing:
                write_closed(writing.session, campaign, purged, ledger.clock())

    def _in_states(self, states: frozenset[State]) -> frozenset[str]:
        # Raises where the tombstones are damaged: the database alone must not decide who may be used.
        self.stopped()
        if self._watch is None:
            return frozenset()
        with self._ledger() as ledger, transaction(ledger.engine) as session:
            revocations = standing_of(session)
        return frozenset(s.pseudonym for s in revocations if s.state in states)


def _scopes(revocations: Iterable[RevocationStatus]) -> dict[str, set[Scope]]:
    """Scopes by pseudonym of the revocations that the model must still follow."""
    scopes: dict[str, set[Scope]] = defaultdict(set)
    for one in revocations:
        if one.state in TO_FORGET:
            scopes[one.pseudonym].add(one.scope)

    return scopes
