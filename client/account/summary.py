"""A receipt's revocations in one line, for the command line and the services. No identities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from client.consent.kinds import Kind
from client.revocations.look_alikes.alike import DOUBTFUL
from client.revocations.revocation import OPEN, Remediation, RevocationStatus, Scope, SourceKind, State, nobody_asked

_FURTHEST_FROM_THE_END = (
    State.RECEIVED,
    State.ON_HOLD,
    State.AWAITING_APPROVAL,
    State.ESCALATED,
    State.PENDING,
    State.IN_CAMPAIGN,
    State.UNLEARNED,
    State.RETRAINED,
    State.EVALUATION_ONLY,
    State.EXCLUDED,
    State.USE_STOPPED,
    State.READMITTED,
    State.REFUSED,
)


@dataclass(frozen=True, slots=True)
class Summary:
    """All revocations of one receipt.

    Attributes:
        number: number of the first one in the ledger.
        state: state of the one furthest from settled.
        states: number of revocations in each state.
        due: earliest due date of the open ones, or of all if none is open.
        closed: when the last one was settled; None while one is open.
        remediation: remediation of the one that gives the state.
        campaign: the last campaign that dealt with any of them.
        known: patients who are, or were, in the site's data.
        doubtful: identifiers of which a person must say who is meant.
    """

    number: int
    receipt: str
    source: SourceKind
    patients: int
    state: State
    states: Mapping[State, int]
    scope: Scope
    kind: Kind
    legal_basis: str
    received: datetime
    recorded: datetime
    due: datetime
    closed: datetime | None
    remediation: Remediation | None
    campaign: int | None
    known: int
    doubtful: int

    @property
    def is_open(self) -> bool:
        """Whether the answer is still outstanding."""
        return self.state in OPEN

    def days_left(self, now: datetime) -> float | None:
        """Days until the answer is due, negative if overdue; None if it was given or nobody has asked."""
        is_owed = self.is_open and not nobody_asked(self.receipt)
        return round((self.due - now) / timedelta(days=1), 1) if is_owed else None


def summarised(statuses: Iterable[RevocationStatus]) -> tuple[Summary, ...]:
    """Receipts in the order in which they were recorded."""
    by_receipt: dict[str, list[RevocationStatus]] = {}
    for standing in statuses:
        by_receipt.setdefault(standing.receipt, []).append(standing)
    return tuple(_summary(some) for some in by_receipt.values())


def _summary(some: list[RevocationStatus]) -> Summary:
    first = min(some, key=lambda s: s.number)
    lead = min(some, key=lambda s: _FURTHEST_FROM_THE_END.index(s.state))
    strangers = {s.pseudonym for s in some if s.state is State.EXCLUDED}
    doubtful = {s.pseudonym for s in some if s.state is State.ON_HOLD and s.reason == DOUBTFUL}
    still_open = [s for s in some if s.state in OPEN]

    return Summary(
        number=first.number,
        receipt=first.receipt,
        source=first.source.kind,
        patients=len({s.pseudonym for s in some}),
        known=len({s.pseudonym for s in some} - strangers - doubtful),
        doubtful=len(doubtful),
        state=lead.state,
        states=Counter(s.state for s in some),
        scope=first.scope,
        kind=first.kind,
        legal_basis=first.legal_basis,
        received=min(s.received for s in some),
        recorded=min(s.recorded for s in some),
        due=min(s.due for s in still_open or some),
        closed=None if still_open else max(s.since for s in some),
        remediation=lead.remediation,
        campaign=max((s.campaign for s in some if s.campaign is not None), default=None),
    )
