"""Tables of consents by version, of what was decided of them, and of how far a FHIR server was read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from client.database import Base


class ConsentRow(Base):
    """One version of one consent. Two texts of the same version are two rows."""

    __tablename__ = "consents"
    resource: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str] = mapped_column(index=True)
    status: Mapped[str]
    updated: Mapped[datetime | None]
    received: Mapped[datetime]
    receipt: Mapped[str]
    document: Mapped[dict[str, Any]]
    weighed: Mapped[datetime | None] = mapped_column(index=True)
    interaction: Mapped[str] = mapped_column(default="")
    """By which a system handed it in; empty where the site read it, or an earlier release kept it."""


_WAITS = text("receipt is not null and recorded is null")


class DecisionRow(Base):
    """What a patient's consents come to, and whether a revocation was made of it."""

    __tablename__ = "consent_decisions"
    __table_args__ = (Index("ix_consent_decisions_waiting", "patient", sqlite_where=_WAITS, postgresql_where=_WAITS),)
    patient: Mapped[str] = mapped_column(primary_key=True)
    answer: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime]
    resource: Mapped[str]
    version: Mapped[str]
    receipt: Mapped[str | None]
    """Of the version that withdrew first."""
    received: Mapped[datetime | None]
    """When the hospital had that version."""
    recorded: Mapped[datetime | None]
    """When it became a revocation; not before the patient map names the patient."""


class ServerRow(Base):
    """A FHIR server that is pulled from."""

    __tablename__ = "fhir_servers"
    base: Mapped[str] = mapped_column(String(500), primary_key=True)
    cursor: Mapped[datetime | None]
    """Latest `meta.lastUpdated` seen, by the server's clock."""
    baseline: Mapped[datetime | None]
    """The cursor after the first pull."""
    pulled: Mapped[datetime | None]
    reconciled: Mapped[datetime | None]


class OtherKeyRow(Base):
    """Another name that consents give for a patient, both as pseudonyms; the name itself is sealed."""

    __tablename__ = "consent_other_keys"
    patient: Mapped[str] = mapped_column(primary_key=True)
    other: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[str] = mapped_column(String(1000))


class SilenceRow(Base):
    """How many consents of one patient say nothing of the use that is asked for, by what they are about instead."""

    __tablename__ = "consent_silences"
    patient: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]


class ListingRow(Base):
    """A consent that the FHIR server has listed, and since when it does no more."""

    __tablename__ = "consent_listings"
    resource: Mapped[str] = mapped_column(primary_key=True)
    gone: Mapped[datetime | None] = mapped_column(index=True)
