"""The coordinator's database: who takes part, campaigns with each of their phases, versions and who holds them.

SQLite in WAL mode by default, PostgreSQL by URL (`postgresql+pg8000://...`). The schema is changed by migrations only.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Engine, ForeignKey, MetaData, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from common.platform import sql
from common.platform.event_log.tables import log_tables

MIGRATIONS = Path(__file__).parent / "migrations"


class Base(sql.Tables):
    """Base of the coordinator's tables."""

    __abstract__ = True
    metadata = MetaData()


class SiteRow(Base):
    """A hospital: its keys, and whether it may take part."""

    __tablename__ = "sites"
    name: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    """`active`, `suspended` (three bad replies in a row) or `revoked`."""
    node: Mapped[int | None] = mapped_column(BigInteger)
    """Flower's node id; unsigned 64 bit there, stored as the signed number of the same bits."""
    node_key: Mapped[str] = mapped_column(Text)
    """OpenSSH public key of its SuperNode."""
    signing_key: Mapped[str] = mapped_column(Text)
    """PEM of the key that signs its replies."""
    certificate: Mapped[str] = mapped_column(Text)
    """PEM of its client certificate for the coordination service."""
    next_certificate: Mapped[str | None] = mapped_column(Text)
    """PEM of the renewed one, until the hospital uses it."""
    enrolled: Mapped[datetime]
    revoked: Mapped[datetime | None]
    bad_replies: Mapped[int] = mapped_column(default=0)
    """In a row."""
    pending: Mapped[int] = mapped_column(default=0)
    """Revocations it announced as waiting."""
    first_due: Mapped[datetime | None]
    announced: Mapped[datetime | None]
    """Since when revocations have been waiting, as far as announced; None when none waits."""
    seen: Mapped[datetime | None]
    """Last heartbeat."""
    version: Mapped[str] = mapped_column(default="")
    """Version of FedForget it runs."""
    refusals: Mapped[int] = mapped_column(default=0)
    """Campaigns in a row that went on without it because it did not unlearn."""
    aside_until: Mapped[datetime | None]
    """No campaign is planned for its revocations before; see `server/campaign/running/set_aside.py`."""


class StudyCountRow(Base):
    """A number of studies that a site registered with its signature, as it was decided on; never deleted."""

    __tablename__ = "study_counts"
    __table_args__ = (UniqueConstraint("site", "sequence"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    site: Mapped[str] = mapped_column(ForeignKey("sites.name"))
    sequence: Mapped[int] = mapped_column(BigInteger)
    """The site's own number of the statement; a later one is larger."""
    train_studies: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str]
    """`approved` (the first one, or by a person), `registered` (within the drift), `pending` or `replaced`."""
    received: Mapped[datetime]
    decided: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(Text, default="")
    envelope: Mapped[str] = mapped_column(Text)
    """The signed statement."""


class VersionRow(Base):
    """A model version; the folder may be gone, the record stays."""

    __tablename__ = "versions"
    name: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    """`active`, `superseded`, `quarantined` (saw a revoked patient) or `withdrawn`."""
    parent: Mapped[str | None] = mapped_column(ForeignKey("versions.name"))
    campaign: Mapped[int | None] = mapped_column(ForeignKey("campaigns.number"))
    manifest_digest: Mapped[str]
    created: Mapped[datetime]
    state_since: Mapped[datetime]
    weights_deleted: Mapped[datetime | None]
    manifest: Mapped[dict[str, Any]]


class DeliveryRow(Base):
    """Which site got which version, and when it said that its copy is gone."""

    __tablename__ = "deliveries"
    version: Mapped[str] = mapped_column(ForeignKey("versions.name"), primary_key=True)
    site: Mapped[str] = mapped_column(ForeignKey("sites.name"), primary_key=True)
    sent: Mapped[datetime]
    purged: Mapped[datetime | None]


class ExportRow(Base):
    """A version that was exported: to whom, and when the recipient said that the copies are deleted."""

    __tablename__ = "exports"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    version: Mapped[str] = mapped_column(ForeignKey("versions.name"), index=True)
    recipient: Mapped[str]
    """As the operator named them; empty where nobody was named."""
    sent: Mapped[datetime]
    purged: Mapped[datetime | None]


class CampaignRow(Base):
    """One campaign, or one training, as it stands."""

    __tablename__ = "campaigns"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    kind: Mapped[str]
    """`training`, `unlearning` or `retraining`: a training by which patients are forgotten."""
    state: Mapped[str]
    reason: Mapped[str] = mapped_column(Text, default="")
    parent: Mapped[str | None]
    """Version it began from."""
    result: Mapped[str | None]
    """Version it published."""
    created: Mapped[datetime]
    changed: Mapped[datetime]
    due: Mapped[datetime | None]
    open: Mapped[bool | None] = mapped_column(unique=True)
    """True until it ends, then null: the uniqueness lets no second one begin on the same model."""
    attempt: Mapped[int] = mapped_column(default=0)
    """Which Flower run may write; one that was given up writes no more."""
    retry_at: Mapped[datetime | None]
    """Not to be taken up again before."""
    run: Mapped[int | None] = mapped_column(BigInteger)
    """Flower's run id, as the signed number of the same bits."""
    series: Mapped[int | None] = mapped_column(BigInteger)
    settings: Mapped[dict[str, Any]]
    """The experiment and the policy as they stood when it was planned."""
    sites: Mapped[list[str] | None]
    """Whose revocations it answers; null: all that report some when it begins."""
    tries: Mapped[int] = mapped_column(default=0)
    """Failed tries in a row since the last finished step."""
    progress: Mapped[int] = mapped_column(default=0)
    """Steps that were finished when the last try failed."""


class PhaseRow(Base):
    """A finished step of a campaign: what a restart goes on from. Never changed once written."""

    __tablename__ = "phases"
    __table_args__ = (UniqueConstraint("campaign", "step"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    campaign: Mapped[int] = mapped_column(ForeignKey("campaigns.number"))
    step: Mapped[str]
    """`unlearn:site-1`, `aggregate`, `retain:0`, `audit`, ..."""
    finished: Mapped[datetime]
    weights: Mapped[str] = mapped_column(default="")
    """Digest of the weights it left, empty when it left none."""
    body: Mapped[dict[str, Any]]


class EventRow(Base):
    """What happened, in order; nothing here identifies a patient."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    campaign: Mapped[int | None] = mapped_column(ForeignKey("campaigns.number"))
    site: Mapped[str | None]
    kind: Mapped[str]
    """`state`, `quarantined`, `late`, `suspended`, `enrolled`, `revoked`, `rotated`, `published`, ..."""
    detail: Mapped[str] = mapped_column(Text)


class AttestationRow(Base):
    """The attestation of a campaign that made patients forgotten: what it waits for, and the file once it is signed."""

    __tablename__ = "attestations"
    campaign: Mapped[int] = mapped_column(ForeignKey("campaigns.number"), primary_key=True)
    version: Mapped[str] = mapped_column(ForeignKey("versions.name"))
    sites: Mapped[dict[str, Any]]
    """Who is asked for the digests of the revocations it answers by this version: null until it has said so."""
    envelope: Mapped[str] = mapped_column(Text, default="")
    """Empty until all have; then signed by the coordinator, and by one site after the other."""
    issued: Mapped[datetime | None]


class LinkageTokenRow(Base):
    """A token that a site's revocation is told to others by; see `server.membership.linkage`."""

    __tablename__ = "linkage_tokens"
    __table_args__ = (UniqueConstraint("site", "token"),)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    site: Mapped[str] = mapped_column(ForeignKey("sites.name"))
    token: Mapped[str]


class LinkageHeadRow(Base):
    """How many tokens there are."""

    __tablename__ = "linkage_head"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    size: Mapped[int]


LOG = log_tables(Base.metadata)
"""The coordinator's tamper-evident log."""


def migrate(engine: Engine) -> None:
    """Bring the schema to this code's."""
    sql.migrate(engine, MIGRATIONS)


def pending_migration(engine: Engine) -> str | None:
    """Which schema the database has when it is not this code's, None when it is."""
    return sql.pending_migration(engine, MIGRATIONS)


def signed64(identity: int) -> int:
    """The signed number with the bits of an unsigned one: databases have no unsigned 64 bit."""
    return identity - 2**64 if identity >= 2**63 else identity


def unsigned64(stored: int) -> int:
    """Inverse of `signed64`."""
    return stored + 2**64 if stored < 0 else stored
