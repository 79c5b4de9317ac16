"""Revocations as data: what a request says, what stands in the ledger, and what is answered. No identities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NamedTuple

from client.consent.kinds import Kind, usual_basis

SourceKind = Literal["cli", "grpc", "fhir", "list", "link", "restored"]
"""How a revocation came; `link`: from another hospital; `restored`: from the tombstones, as a backup lacked it."""
Scope = Literal["all", "images", "reports"]
"""What must be forgotten. All use of the patient stops with any: the model reads images and reports together."""


class State(StrEnum):
    """Where a revocation stands. `client.revocations.transitions` says what may follow what."""

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
"""How signed statements name where a revocation came from: the one place that maps it."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a request stands in the system it came from; the same one is recorded once, however often it comes.

    Attributes:
        id: such as a Consent's id or the client's request id; never a patient's.
        version: of the document.
        digest: SHA-256 of it in hexadecimal; empty if there is none.
    """

    kind: SourceKind
    id: str
    version: str = ""
    digest: str = ""


_DOUBT = "doubt-"
_ALIKE = "alike-"
_RECEIPT_CHARACTERS = 40
_PSEUDONYM_CHARACTERS = 16


def doubt_about(consent: str, version: str, number: str) -> tuple[Source, str]:
    """Source and receipt of a hold that no withdrawal caused, but a consent of which nobody can tell what it says."""
    return Source("fhir", f"{_DOUBT}{consent}", version), f"{_DOUBT}{number}"


def is_doubt(receipt: str) -> bool:
    """Whether `doubt_about` made it; the receipt is all that is left of it in the tombstones."""
    return receipt.startswith(_DOUBT)


def nobody_asked(receipt: str) -> bool:
    """Whether it is of a hold that the patient did not ask for, so that no answer to it is due."""
    return is_doubt(receipt) or is_alike(receipt)


def alike_receipt(receipt: str, pseudonym: str) -> str:
    """The receipt of the holds on all whom an identifier may mean, by its own receipt and pseudonym.

    The tombstones alone tell by it which revocation waits for a person to say who is meant.
    """
    return f"{_ALIKE}{receipt[:_RECEIPT_CHARACTERS]}-{pseudonym[:_PSEUDONYM_CHARACTERS]}"


def is_alike(receipt: str) -> bool:
    """Whether `alike_receipt` made it."""
    return receipt.startswith(_ALIKE)


def consent_of(source: Source) -> str:
    """The consent's id, or what else a source names."""
    return source.id.removeprefix(_DOUBT)


@dataclass(frozen=True, slots=True)
class Request:
    """A revocation as it comes in, of one patient or of a list of them.

    Attributes:
        receipt: its number here, of letters, digits and `._-`; says nothing about patients.
        received: when the hospital had it, from which its deadline runs.
        effective: from when on use is withdrawn; None: since `received`.
        policies: codes of the consent policies withdrawn; none means all.
        kind: what is asked for; only an opt-out is reversible.
        legal_basis: as in `GDPR 7(3)`; empty: the usual one of the kind.
        requester: role of who asked, e.g. `patient` or `guardian`.
        identity_check: how that was established.
        steward: name of who recorded it; the second approver must be another.
        identity: what that name was bound to, see `common.platform.actor`.
        hold: why a steward must look at it before anything else; empty: go on.
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
        """The legal basis that is recorded."""
        return self.legal_basis or usual_basis(self.kind)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the one who handed in revocations gets; all of it is on the disk.

    Attributes:
        receipt: under which they are found; of a request that came before, the one that it got then.
        patients: in the request.
        earlier: of these, revoked before; their first dates stay in force.
        others: of these, how many other hospitals were, or will be, told by linkage; None: no linkage is configured, so
            other hospitals were not reached.
        known: of the patients, those who are, or were, in the site's data.
        unknown: those of whom nobody here has heard; they are kept out of later imports.
        doubtful: those of whom a person must say who is meant; use of all who may be meant has stopped.
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
        """What whoever handed in the request has to know and may not expect; empty if all are known."""
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
    """One revocation of one patient as it stands.

    Attributes:
        number: in the ledger.
        pseudonym: of the patient.
        steps: how many there were.
        recorded: when it was written down here; use stopped then at the latest.
        due: with extensions.
        since: of its state.
        reason: given with the last event; empty if none was.
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
        """When it came to its end."""
        return self.since if self.state in TERMINAL else None


@dataclass(frozen=True, slots=True)
class Event:
    """One step of a revocation.

    Attributes:
        seq: 1, 2, ... within the revocation.
        actor: who did it: a steward's name, or a part of the software.
        due: as it stands after the step.
        identity: what the name was bound to, see `common.platform.actor`; empty for software, and for older steps.
        signature: a DSSE envelope below an approval, where a steward's key gave it.
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
    """Revocations that the model has still to follow; what leaves the site about them.

    Attributes:
        number: of patients whom a campaign can take up now.
        first_due: the earliest of all that are open, also of those that await an approval.
    """

    number: int
    first_due: datetime | None


LIFTED = frozenset({State.REFUSED, State.READMITTED})
"""They stop nobody."""
TERMINAL = frozenset(
    {State.EXCLUDED, State.EVALUATION_ONLY, State.UNLEARNED, State.RETRAINED, State.USE_STOPPED, *LIFTED}
)
"""They were answered: nothing follows them but a re-admission."""
TO_FORGET = frozenset({State.PENDING, State.IN_CAMPAIGN, State.ESCALATED})
"""The model has still to forget, and a campaign may begin."""
OPEN = frozenset(State) - TERMINAL
