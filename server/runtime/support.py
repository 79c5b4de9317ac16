"""What the coordinator's support bundle is made of. Hospitals are numbered in it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from common.errors import FedForgetError
from common.platform.sql import open_database, transaction
from common.platform.support.bundle import Subject, write_bundle
from server.database import SiteRow, pending_migration
from server.runtime.doctor import examine
from server.settings import ServerFolder, ServerSettings

PROCESSES = ("up", "superlink", "superexec", "gateway", "coordinator", "console", "notices")


def server_bundle(folder: ServerFolder, out: Path, now: datetime) -> list[str]:
    """Write the support bundle of the coordinator; returns the names of its parts.

    Raises:
        ConfigError: `server.toml` is missing or wrong.
        OutputError: `out` exists, or cannot be written.
    """
    settings = folder.settings()
    database = folder.database_url(settings)
    names = _hospitals(database)
    subject = Subject(
        side="server",
        root=folder.root,
        logs=folder.logs,
        settings=settings,
        database_url=database,
        monitor=settings.ports.monitor,
        examine=lambda: examine(folder, now),
        pending=pending_migration,
        processes=PROCESSES,
        parts=(folder.root / "server.db", folder.models, folder.work, folder.logs, folder.flower_database),
        private=_hosts(settings),
        aliases={name: f"hospital-{number}" for number, name in enumerate(names, 1)},
    )

    return write_bundle(subject, out, now)


def _hospitals(database: str) -> list[str]:
    """Names in the order of enrolment; none if the database cannot be read, as then nothing speaks of them."""
    try:
        engine = open_database(database)
        try:
            with transaction(engine) as session:
                return list(session.scalars(select(SiteRow.name).order_by(SiteRow.enrolled, SiteRow.name)))
        finally:
            engine.dispose()
    except (FedForgetError, SQLAlchemyError):
        return []


def _hosts(settings: ServerSettings) -> set[str]:
    return {*settings.hosts, *settings.classes}
