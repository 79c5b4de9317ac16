"""A site's own database: revocations, versions it holds, who was in which round, instructions it has seen, its log.

It never leaves the site. SQLite in the site's folder by default, PostgreSQL by URL (`postgresql+pg8000://...`); the
schema is changed by migrations only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine, MetaData, String
from sqlalchemy.orm import Mapped, mapped_column

from common.platform import sql
from common.platform.event_log.tables import log_tables

MIGRATIONS = Path(__file__).parent / "migrations"


class Base(sql.Tables):
    """Base of the site's tables."""

    __abstract__ = True
    metadata = MetaData()


class HoldingRow(Base):
    """A model version that lies, or lay, on this site's disk."""

    __tablename__ = "holdings"
    digest: Mapped[str] = mapped_column(primary_key=True)
    """Of its weights."""
    name: Mapped[str]
    received: Mapped[datetime]
    purged: Mapped[datetime | None]
    acknowledged: Mapped[datetime | None]
    """When the coordinator was told that it is gone."""


class RetiredRow(Base):
    """Weights that saw a patient who has been forgotten since, held here or not: nothing starts from them again."""

    __tablename__ = "retired"
    digest: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class MemberRow(Base):
    """A patient of a cohort. A cohort is named by the digest of its members, so that many rounds share one."""

    __tablename__ = "members"
    cohort: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str] = mapped_column(primary_key=True, index=True)


class ParticipationRow(Base):
    """A cohort was used in a step of a campaign, starting from some weights."""

    __tablename__ = "participations"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    campaign: Mapped[int] = mapped_column(index=True)
    step: Mapped[str]
    use: Mapped[str]
    """What the patients were used for, as of `client.cohort.participation.Use`."""
    weights: Mapped[str]
    """Digest of the weights that came in."""
    cohort: Mapped[str] = mapped_column(index=True)
    at: Mapped[datetime]


class SeenRow(Base):
    """A nonce that was used: the same instruction is not carried out twice."""

    __tablename__ = "seen"
    nonce: Mapped[str] = mapped_column(primary_key=True)
    expires: Mapped[datetime]


class PatientRow(Base):
    """The identifier behind a pseudonym, sealed: no other table of the site's consents and revocations holds one."""

    __tablename__ = "consent_patients"
    patient: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[str] = mapped_column(String(1000))


LOG = log_tables(Base.metadata)
"""The site's tamper-evident log."""


@contextmanager
def opened(database: Path | str) -> Iterator[Engine]:
    """An engine for a site's database by its URL, or by its file where it is SQLite's; closed at the end.

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
    """Bring the schema to this code's."""
    sql.migrate(engine, MIGRATIONS)


def pending_migration(engine: Engine) -> str | None:
    """Which schema the database has when it is not this code's, None when it is."""
    return sql.pending_migration(engine, MIGRATIONS)
