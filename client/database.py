"""A site's own database: revocations, model versions, participation in rounds, seen instructions, and the log.

It never leaves the site. SQLite in the site's folder by default, PostgreSQL by URL (`postgresql+pg8000://...`). Only
migrations change the schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, MetaData, String
from sqlalchemy.orm import Mapped, mapped_column

from common.platform import sql
from common.platform.event_log.tables import log_tables

MIGRATIONS = Path(__file__).parent / "migrations"


class Base(sql.Tables):
    """Base class of the site's tables."""

    __abstract__ = True
    metadata = MetaData()


class HoldingRow(Base):
    """A model version that is, or was, on this site's disk."""

    __tablename__ = "holdings"
    digest: Mapped[str] = mapped_column(primary_key=True)
    """Of its weights."""
    name: Mapped[str]
    received: Mapped[datetime]
    purged: Mapped[datetime | None]
    acknowledged: Mapped[datetime | None]
    """When the coordinator was told that it is deleted."""


class RecipientsRow(Base):
    """Who received a model version, as the coordinator said last."""

    __tablename__ = "recipients"
    digest: Mapped[str] = mapped_column(primary_key=True)
    """Of its weights."""
    heard: Mapped[datetime]
    body: Mapped[dict[str, Any]]
    """`recipients`: as of `common.protocol.recipients.as_plain`."""


class RetiredRow(Base):
    """Weights that were trained on a patient who has since been forgotten. Nothing starts from them again."""

    __tablename__ = "retired"
    digest: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class MemberRow(Base):
    """A patient of a cohort. The digest of its members names a cohort, so that rounds can share it."""

    __tablename__ = "members"
    cohort: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str] = mapped_column(primary_key=True, index=True)


class ParticipationRow(Base):
    """Use of a cohort in a step of a campaign, starting from some weights."""

    __tablename__ = "participations"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    campaign: Mapped[int] = mapped_column(index=True)
    step: Mapped[str]
    use: Mapped[str]
    """What the patients were used for: a `client.cohort.participation.Use`."""
    weights: Mapped[str]
    """Digest of the received weights."""
    cohort: Mapped[str] = mapped_column(index=True)
    at: Mapped[datetime]


class SeenRow(Base):
    """A used nonce: no instruction is carried out twice."""

    __tablename__ = "seen"
    nonce: Mapped[str] = mapped_column(primary_key=True)
    expires: Mapped[datetime]


class PatientRow(Base):
    """The encrypted identifier behind a pseudonym. No other table about consents or revocations holds identifiers."""

    __tablename__ = "consent_patients"
    patient: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[str] = mapped_column(String(1000))


class FoldScoreRow(Base):
    """A patient's fold in a family of fold models, or a score under one of them.

    A training patient has a row for the one model that never saw them, without margins until it has been scored;
    calibration and audit patients have a row for every model. The rows are purged with the patient.
    """

    __tablename__ = "fold_scores"
    lineage: Mapped[str] = mapped_column(primary_key=True)
    """The training that the fold models belong to, by the coordinator's name for it."""
    family: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str] = mapped_column(primary_key=True, index=True)
    fold: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    member: Mapped[bool]
    """Whether this is the fold of a training patient."""
    image: Mapped[float | None]
    text: Mapped[float | None]
    fused: Mapped[float | None]


LOG = log_tables(Base.metadata)
"""The site's tamper-evident log."""


@contextmanager
def opened(database: Path | str) -> Iterator[Engine]:
    """An engine for a site's database, by URL or by SQLite file; closed at the end.

    Raises:
        UnavailableError: it cannot be opened.
        InputError: it is damaged.
    """
    engine = sql.open_database(database if isinstance(database, str) else f"sqlite:///{database.resolve()}")

    try:
        yield engine
    finally:
        engine.dispose()


def migrate(engine: Engine) -> None:
    """Migrate the schema to this version of the code."""
    sql.migrate(engine, MIGRATIONS)


def pending_migration(engine: Engine) -> str | None:
    """The database's schema if it differs from this version of the code, else None."""
    return sql.pending_migration(engine, MIGRATIONS)
