"""Revocations as data: requests, records of the ledger, and answers. No identities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NamedTuple

from client.consent.kinds import Kind, usual_basis

SourceKind = Literal["cli", "grpc", "fhir", "list", "link", "restored"]
"""How a revocation arrived; `link`: from another hospital; `restored`: from the tombstones."""
Scope = Literal["all", "images", "reports"]
"""What must be forgotten. All use of the patient's data stops in any case: the model reads both together."""


class State(StrEnum):
    """The state of a revocation. `client.revocations.workflow.transitions` defines the allowed changes."""

    RECEIVED = "received"
    ON_HOLD = "on-hold"
    AWAITING_APPROVAL = "awaiting-approval"
    PENDING = "pending"
    IN_CAMPAIGN = "in-campaign"
    ESCALATED = "escalated"
    EXCLUDED = "excluded-before-training"
    EVALUATION_ONLY = "evaluation-only"
    UNLEARNED = "unlearned"
    RETRAINED = "retrained"
    REFUSED = "refused"
    USE_STOPPED = "use-stopped"
    READMITTED = "readmitted"


Remediation = Literal[
    "excluded-before-training",
    "evaluation-only",
    "unlearned",
    "retrained",
    "inconclusive",
    "refused",
    "use-stopped",
    "readmitted",
]
"""What was done about a revocation; `inconclusive` closes a campaign, not the revocation. `use-stopped`: after an
opt-out nothing is trained on the patient, and the model keeps what it learned before."""

StatedSource = Literal["fhir", "form", "opt-out-list", "other-hospital", "tombstone"]
STATED_SOURCE: Mapping[SourceKind, StatedSource] = MappingProxyType(
    {
        "cli": "form",
        "grpc": "form",
        "fhir": "fhir",
        "list": "opt-out-list",
        "link": "other-hospital",
        "restored": "tombstone",
    }
)
"""The names of sources in signed statements; the only place that maps them."""


@dataclass(frozen=True, slots=True)
class Source:
    """Identifies a request in the system it came from. A repeated request is recorded once.

    Attributes:
        id: e.g. a Consent's id or the client's request id; never a patient's.
        version: of the document.
        digest: SHA-256 of the document in hexadecimal; empty if there is none.
    """

    kind: SourceKind
    id: str
    version: str = ""
    digest: str = ""


_DOUBT = "doubt-"
_ALIKE = "alike-"
# With prefix and hyphen these are 63 characters; a receipt has at most 64.
_RECEIPT_CHARACTERS = 40
_PSEUDONYM_CHARACTERS = 16


def doubt_about(consent: str, version: str, number: str) -> tuple[Source, str]:
    """Source and receipt of a hold caused by an unclear consent instead of a withdrawal."""
    return Source("fhir", f"{_DOUBT}{consent}", version), f"{_DOUBT}{number}"


def is_doubt(receipt: str) -> bool:
    """Whether `doubt_about` made the receipt, which is all that the tombstones keep."""
    return receipt.startswith(_DOUBT)


def nobody_asked(receipt: str) -> bool:
    """Whether the receipt is of a hold that the patient did not ask for, so that no answer is due."""
    return is_doubt(receipt) or is_alike(receipt)


def alike_receipt(receipt: str, pseudonym: str) -> str:
    """The receipt of the holds on all patients whom an identifier may mean, by its own receipt and pseudonym.

    Through it the tombstones alone tell which revocation waits for a person to say who is meant.
    """
    return f"{_ALIKE}{receipt[:_RECEIPT_CHARACTERS]}-{pseudonym[:_PSEUDONYM_CHARACTERS]}"


def asked_receipt(number: str) -> str:
    """The receipt, or its beginning, behind a number that `alike_receipt` made."""
    return number.removeprefix(_ALIKE)[: -_PSEUDONYM_CHARACTERS - 1]


def is_alike(receipt: str) -> bool:
    """Whether `alike_receipt` made the receipt."""
    return receipt.startswith(_ALIKE)


def consent_of(source: Source) -> str:
    """The consent's id, or whatever else the source names."""
    return source.id.removeprefix(_DOUBT)


@dataclass(frozen=True, slots=True)
class Request:
    """A revocation as received, for one patient or a list of patients.

    Attributes:
        receipt: its number here, of letters, digits and `._-`; reveals nothing about patients.
        received: when the hospital received it; the deadline starts then.
        effective: when the withdrawal takes effect; None: at `received`.
        policies: codes of the withdrawn consent policies; empty: all.
        kind: kind of request; only an opt-out is reversible.
        legal_basis: e.g. `GDPR 7(3)`; empty: the usual one for the kind.
        requester: role of the person who asked, e.g. `patient` or `guardian`.
        identity_check: how their identity was checked.
        steward: name of the recording person; the approver must be another person.
        identity: the identity behind that name, see `common.platform.actor`.
        hold: why a steward must review it first; empty: no review.
    """

    source: Source
    receipt: str
    received: datetime
    scope: Scope = "all"
    effective: datetime | None = None
    policies: tuple[str, ...] = ()
    kind: Kind = "withdrawal"
    legal_basis: str = ""
    requester: str = "not recorded"
    identity_check: str = "not recorded"
    steward: str = ""
    identity: str = ""
    hold: str = ""

    @property
    def basis(self) -> str:
        """The legal basis to record."""
        return self.legal_basis or usual_basis(self.kind)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a recorded request; everything is on the disk.

    Attributes:
        receipt: their number; a repeated request gets its first receipt.
        patients: number in the request.
        earlier: of these, revoked before; their first dates remain valid.
        others: how many other hospitals are informed by linkage; None: no linkage is configured, so other hospitals
            are not reached.
        known: patients who are, or were, in the site's data.
        unknown: patients unknown here; later imports exclude them.
        doubtful: identifiers of which a person must say who is meant; use of all candidates has stopped.
    """

    receipt: str
    patients: int
    earlier: int
    received: datetime
    due: datetime
    others: int | None = None
    known: int = 0
    unknown: int = 0
    doubtful: int = 0

    @property
    def note(self) -> str:
        """What the sender of the request must know and may not expect; empty if all patients are known."""
        return "; ".join(self._notes())

    def _notes(self) -> Iterator[str]:
        if self.patients and self.unknown == self.patients:
            yield f"0 of {self.patients} known here: nothing was done but to keep them out of later imports"
        elif self.unknown:
            yield f"{self.known} of {self.patients} known here; the unknown are kept out of later imports"

        if self.doubtful:
            yield (
                f"{self.doubtful} look like patients here and are not the same: use of these has stopped until "
                "fedforget-site revocations doubtful says who is meant"
            )


@dataclass(frozen=True, slots=True)
class RevocationStatus:
    """The current state of one revocation of one patient.

    Attributes:
        number: in the ledger.
        pseudonym: of the patient.
        steps: number of steps so far.
        recorded: when it was recorded here; use stopped then at the latest.
        due: with extensions.
        since: of its state.
        reason: reason of the last step, or empty.
        campaign: the last that dealt with it.
        model: digest of the weights that closed it.
    """

    number: int
    receipt: str
    pseudonym: str
    source: Source
    scope: Scope
    policies: tuple[str, ...]
    kind: Kind
    legal_basis: str
    requester: str
    identity_check: str
    steward: str
    identity: str
    received: datetime
    effective: datetime
    recorded: datetime
    due: datetime
    state: State
    since: datetime
    reason: str
    remediation: Remediation | None
    campaign: int | None
    model: str
    steps: int

    @property
    def closed(self) -> datetime | None:
        """When it was settled."""
        return self.since if self.state in TERMINAL else None


@dataclass(frozen=True, slots=True)
class Event:
    """One step of a revocation.

    Attributes:
        seq: 1, 2, ... within the revocation.
        actor: a steward's name, or a part of the software.
        due: the due date after the step.
        identity: the identity behind the name, see `common.platform.actor`; empty for software and older steps.
        signature: the DSSE envelope of an approval by a steward's key.
    """

    revocation: int
    seq: int
    at: datetime
    state: State
    actor: str
    due: datetime
    reason: str = ""
    remediation: Remediation | None = None
    campaign: int | None = None
    model: str = ""
    identity: str = ""
    signature: str = ""


class Waiting(NamedTuple):
    """Revocations that the model must still follow: all that leaves the site about them.

    Attributes:
        number: patients whom a campaign can take up now.
        first_due: earliest due date of all open ones, including those that await approval.
    """

    number: int
    first_due: datetime | None


LIFTED = frozenset({State.REFUSED, State.READMITTED})
"""States that do not stop use."""
TERMINAL = frozenset(
    {State.EXCLUDED, State.EVALUATION_ONLY, State.UNLEARNED, State.RETRAINED, State.USE_STOPPED, *LIFTED}
)
"""Settled states: only a readmission can follow."""
TO_FORGET = frozenset({State.PENDING, State.IN_CAMPAIGN, State.ESCALATED})
"""States in which the model must still forget and a campaign may begin."""
OPEN = frozenset(State) - TERMINAL
