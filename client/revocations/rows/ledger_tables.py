"""The ledger's tables. Rows are only added: triggers created by the migration refuse any change."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from client.database import Base


class RevocationRow(Base):
    """One revocation of one patient, as received."""

    __tablename__ = "revocations"
    __table_args__ = (
        UniqueConstraint(
            "source_kind", "source_id", "source_version", "pseudonym", name="uq_revocations_source_and_patient"
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    receipt: Mapped[str] = mapped_column(index=True)
    pseudonym: Mapped[str] = mapped_column(index=True)
    source_kind: Mapped[str]
    source_id: Mapped[str]
    source_version: Mapped[str]
    source_digest: Mapped[str]
    scope: Mapped[str]
    kind: Mapped[str]
    policies: Mapped[list[str]]
    legal_basis: Mapped[str]
    requester: Mapped[str]
    identity_check: Mapped[str]
    steward: Mapped[str]
    identity: Mapped[str]
    """The identity behind the steward's name."""
    received: Mapped[datetime]
    effective: Mapped[datetime]
    recorded: Mapped[datetime]


class RevocationEventRow(Base):
    """A step of a revocation. Its number is unique: of two concurrent steps, one is refused."""

    __tablename__ = "revocation_events"
    __table_args__ = (UniqueConstraint("revocation", "seq", name="uq_revocation_events_seq"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    """Grows in the order of commits, since only one process at a time writes the ledger."""
    revocation: Mapped[int] = mapped_column(ForeignKey("revocations.id"))
    seq: Mapped[int]
    at: Mapped[datetime]
    state: Mapped[str]
    actor: Mapped[str]
    reason: Mapped[str] = mapped_column(String(1000))
    remediation: Mapped[str | None]
    campaign: Mapped[int | None]
    model: Mapped[str]
    due: Mapped[datetime]
    """The due date after the step."""
    identity: Mapped[str]
    """The identity behind the actor's name."""
    signature: Mapped[str] = mapped_column(Text)
    """A DSSE envelope, if a steward's key signed the step."""


class ExemptionRow(Base):
    """A decision by an exception of GDPR Art. 17(3): what is kept of a revocation, why, and who decided."""

    __tablename__ = "exemptions"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    revocation: Mapped[int] = mapped_column(ForeignKey("revocations.id"), index=True)
    at: Mapped[datetime]
    article: Mapped[str]
    code: Mapped[str]
    """See `client.revocations.exemptions.CODES`."""
    keeps: Mapped[str]
    """See `client.revocations.exemptions.KEEPS`."""
    actor: Mapped[str]
    identity: Mapped[str]
    """The identity behind the actor's name."""
    reason: Mapped[str] = mapped_column(String(1000))


class AccessRow(Base):
    """The start or end of a campaign's access to the patients whom it must forget, and what was deleted at its end."""

    __tablename__ = "accesses"
    __table_args__ = (Index("ix_accesses_campaign", "campaign"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    campaign: Mapped[int]
    what: Mapped[str]
    """`opened` or `closed`."""
    at: Mapped[datetime]
    patients: Mapped[int]
    purged: Mapped[dict[str, Any]]
    """How much of each kind was deleted."""


class CoveredRequestRow(Base):
    """A request that came while another revocation of some of its patients stood; see `covered`."""

    __tablename__ = "covered_requests"
    __table_args__ = (UniqueConstraint("source", name="uq_covered_requests_source"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    source: Mapped[str] = mapped_column(String(500))
    at: Mapped[datetime]
    request: Mapped[dict[str, Any]]


class CoveredPatientRow(Base):
    """A patient, by pseudonym, for whom such a request counts as soon as nothing covers it any more."""

    __tablename__ = "covered_patients"
    request: Mapped[int] = mapped_column(ForeignKey("covered_requests.id"), primary_key=True)
    pseudonym: Mapped[str] = mapped_column(primary_key=True, index=True)


class LinkTokenRow(Base):
    """A linkage token of one of this site's revocations."""

    __tablename__ = "link_tokens"
    token: Mapped[str] = mapped_column(primary_key=True)
    pseudonym: Mapped[str]
    told: Mapped[datetime | None]
    """When the coordinator received it."""


class LinkReceivedRow(Base):
    """A token of another hospital's revocation; kept because its patient may be imported here later."""

    __tablename__ = "link_received"
    token: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class LinkPeersRow(Base):
    """The number of other hospitals to which the coordinator forwards tokens."""

    __tablename__ = "link_peers"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    others: Mapped[int]


# Triggers keep these as they are. The other tables change: a token is sent, a covered request comes to count.
APPEND_ONLY = (
    RevocationRow.__tablename__,
    RevocationEventRow.__tablename__,
    ExemptionRow.__tablename__,
    AccessRow.__tablename__,
)
