"""SQL for both sides: times in UTC, engines, transactions, migrations. Each side defines its own tables."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    Connection,
    DateTime,
    Engine,
    String,
    TypeDecorator,
    column,
    create_engine,
    event,
    inspect,
    select,
    table,
)
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session

from common.disk import disk_full
from common.errors import DiskFullError, InputError, NewerSchemaError, UnavailableError
from common.installation import own_version

_READS = "fedforget_reads"
_VERSION_TABLE = "alembic_version"
# Bytes that SQLite needs to start a write, with the index of its journal.
_PAGES = 2**16
_POSTGRESQL_FULL = "53100"
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)


def to_utc(moment: datetime) -> datetime:
    """The moment in UTC, clamped to the calendar: near its ends a local time may have no UTC date."""
    if moment.tzinfo is None:
        return moment.astimezone(UTC)
    return _FIRST if moment <= _FIRST else _LAST if moment >= _LAST else moment.astimezone(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite would forget the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - given
        """To UTC."""
        return None if value is None else to_utc(value)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - given
        """With the zone put back."""
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Tables(DeclarativeBase):
    """Base class for a side's tables: how Python types are stored."""

    __abstract__ = True
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[str]: JSON,
        str: String(200),
    }


def drop_erased(engine: Engine) -> None:
    """Remove erased rows from SQLite's journal too, as far as no other process is reading from it."""
    if engine.dialect.name == "sqlite":
        with contextlib.closing(engine.raw_connection()) as connection:
            connection.cursor().execute("pragma wal_checkpoint(truncate)")


def open_database(url: str) -> Engine:
    """An engine for `url`; nothing is migrated here.

    Raises:
        UnavailableError: the database does not answer.
        InputError: the file is damaged.
    """
    # `pool_pre_ping`: PostgreSQL may have been restarted since the last use of a connection.
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)

    try:
        with _for_reading(engine).connect() as connection:
            if engine.dialect.name == "sqlite":
                # SQLite opens a damaged file without complaint; only reading its schema shows it.
                connection.exec_driver_sql("select count(*) from sqlite_master")
    except DatabaseError as err:
        if (full := _disk_full(engine, err)) is not None:
            raise full from None
        if engine.dialect.name == "sqlite" and _code(err) in _BUSY:
            raise UnavailableError(f"{_shown(engine)}: the database is in use by another process: try again") from None
        if engine.dialect.name == "sqlite" and "unable to open" not in str(err.orig):
            raise InputError(
                f"the database is damaged: {err.orig}", where=_shown(engine), remedy="restore it from its backup"
            ) from None

        raise UnavailableError(f"{_shown(engine)}: the database does not answer: {err.orig}") from None
    except SQLAlchemyError as err:
        raise UnavailableError(f"{_shown(engine)}: the database does not answer: {type(err).__name__}") from None

    return engine


def _prepare_sqlite(connection: Any, record: object) -> None:  # noqa: ARG001 - the driver's own connection
    # Readers do not wait for the writer, so that pages and metrics work while rounds are stored.
    connection.execute("pragma journal_mode = wal")
    # A commit is on disk before the receipt is given (ADR 6).
    connection.execute("pragma synchronous = full")
    connection.execute("pragma foreign_keys = on")
    connection.execute("pragma busy_timeout = 30000")
    # Erased data must not stay in free pages of the file.
    connection.execute("pragma secure_delete = on")
    # The driver would start a transaction only at the first write, and two processes could act on the same read.
    connection.isolation_level = None


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get(_READS, False)
    # The write lock is taken at the start: nobody else can act on what this transaction has read.
    connection.exec_driver_sql("begin" if reads else "begin immediate")


def _shown(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


def _code(err: DatabaseError) -> int:
    """SQLite's primary result code, 0 of another database."""
    return int(getattr(err.orig, "sqlite_errorcode", 0)) & 0xFF


def _disk_full(engine: Engine, err: DatabaseError) -> DiskFullError | None:
    """The error for a full disk, if that is the cause; the transaction then left nothing in the database."""
    if engine.dialect.name == "sqlite":
        path = Path(engine.url.database or ".")
        # SQLite calls it an I/O error where the journal, or its index, cannot grow.
        if _code(err) == sqlite3.SQLITE_FULL or (_code(err) == sqlite3.SQLITE_IOERR and _no_room(path)):
            return disk_full(path, "the transaction")
    elif f"'{_POSTGRESQL_FULL}'" in str(err.orig):
        return disk_full(_shown(engine), "the transaction", remedy="free space on the database's disk, then try again")

    return None


def _no_room(path: Path) -> bool:
    """Whether not even a page fits, or the process has a limit on file sizes, which shows nowhere else."""
    try:
        status = os.statvfs(path.parent)
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    except OSError:
        return False

    return status.f_bavail * status.f_frsize < _PAGES or most != resource.RLIM_INFINITY


def migrate(engine: Engine, migrations: Path) -> None:
    """Bring the schema to the newest revision in the folder `migrations`.

    Raises:
        NewerSchemaError: a later release wrote the schema.
        DiskFullError: there is no space for it; the schema stays as it was.
    """
    from alembic import command  # noqa: PLC0415 - a seventh of a second, at each command, for this alone
    from alembic.config import Config  # noqa: PLC0415

    pending_migration(engine, migrations)
    config = Config()
    config.set_main_option("script_location", str(migrations))

    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DatabaseError as err:
        raise _disk_full(engine, err) or err from None


def pending_migration(engine: Engine, migrations: Path) -> str | None:
    """Which revision the database has when it is not the newest of `migrations`, None when it is.

    Raises:
        NewerSchemaError: it has one that these migrations do not know.
    """
    versions = revisions(migrations)
    head = max(versions, default=None)
    with _for_reading(engine).connect() as connection:
        there = inspect(connection).has_table(_VERSION_TABLE)
        current = connection.scalar(select(column("version_num")).select_from(table(_VERSION_TABLE))) if there else None

    # Revisions are numbered, so a larger unknown one is of a later release.
    if current is not None and current not in versions and current > (head or ""):
        raise NewerSchemaError(
            f"this database was written by a newer FedForget: schema {current}, this is FedForget {own_version()} "
            f"with schema {head}",
            where=_shown(engine),
            remedy="install the version that wrote it, or a later one; nothing is damaged, and nothing was changed",
        )

    return None if current == head else current or "empty"


@cache
def revisions(migrations: Path) -> frozenset[str]:
    """Schema revisions, by file name: `0002_log.py` is 0002. Importing the files would need Alembic."""
    return frozenset(path.name.partition("_")[0] for path in (migrations / "versions").glob("[0-9]*_*.py"))


@contextlib.contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """A session that is committed at the end, or rolled back whole.

    Raises:
        DiskFullError: the disk is full; nothing was written.
    """
    with _told_of_full_disk(engine), Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A read-only session: it sees one snapshot of the database and waits for no writer."""
    with _told_of_full_disk(engine), Session(_for_reading(engine)) as session, session.begin():
        yield session


def _for_reading(engine: Engine) -> Engine:
    """The same engine, whose transactions do not take SQLite's write lock."""
    return engine.execution_options(**{_READS: True})


@contextlib.contextmanager
def _told_of_full_disk(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DatabaseError as err:
        if (full := _disk_full(engine, err)) is not None:
            raise full from None
        if engine.dialect.name == "sqlite" and _code(err) in _BUSY:
            raise UnavailableError(f"{_shown(engine)}: the database is in use by another process: try again") from None
        raise
