"""The databases of both sides: migrations give the tables of the code, and a damaged file is named."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from client import database as site_database
from client.evidence import console_events as console_events  # noqa: PLC0414 - its table is the site's too
from client.intake.fhir.store import consents as consent_store  # noqa: F401 - its tables are the site's too
from common.errors import InputError, UnavailableError
from common.platform.sql import open_database, reading, revisions, transaction
from server import database as server_database


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'some.db'}"


@pytest.mark.parametrize("side", [server_database, site_database])
def test_the_migrations_give_exactly_the_tables_of_the_code(side: ModuleType, url: str) -> None:
    engine = open_database(url)
    assert side.pending_migration(engine) == "empty"
    side.migrate(engine)
    side.migrate(engine)
    assert side.pending_migration(engine) is None
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), side.Base.metadata) == []
    engine.dispose()


def test_moments_come_back_in_utc_whatever_zone_they_were_given_in(url: str) -> None:
    engine = open_database(url)
    server_database.migrate(engine)
    noon = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    with transaction(engine) as session:
        session.add(server_database.EventRow(at=noon, kind="state", detail=""))
    with transaction(engine) as session:
        (row,) = session.query(server_database.EventRow)
        assert row.at == noon
        assert row.at.tzinfo is UTC

    engine.dispose()


def test_a_transaction_that_fails_leaves_nothing(url: str) -> None:
    engine = open_database(url)
    server_database.migrate(engine)

    def add_and_fail() -> None:
        with transaction(engine) as session:
            session.add(server_database.EventRow(at=datetime.now(UTC), kind="state", detail=""))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        add_and_fail()
    with transaction(engine) as session:
        assert session.query(server_database.EventRow).count() == 0
    engine.dispose()


def test_a_reader_does_not_wait_for_a_writer_and_sees_one_moment(url: str) -> None:
    engine = open_database(url)
    server_database.migrate(engine)

    with transaction(engine) as writer:
        writer.add(server_database.EventRow(at=datetime.now(UTC), kind="state", detail=""))
        writer.flush()
        with reading(engine) as session:
            assert session.query(server_database.EventRow).count() == 0

    with reading(engine) as session:
        assert session.query(server_database.EventRow).count() == 1
    engine.dispose()


def test_a_damaged_file_is_named_with_its_remedy(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(InputError, match=r"some\.db: the database is damaged.*restore it from its backup"):
        open_database(f"sqlite:///{path}")


def test_a_database_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="does not answer"):
        open_database(f"sqlite:///{tmp_path / 'no-such-folder' / 'some.db'}")


@pytest.mark.parametrize("identity", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_an_unsigned_identity_survives_a_signed_column(identity: int) -> None:
    stored = server_database.signed64(identity)
    assert -(2**63) <= stored < 2**63
    assert server_database.unsigned64(stored) == identity


@pytest.mark.parametrize("side", ["server", "client"])
def test_the_revisions_by_file_name_are_those_that_alembic_finds(side: str) -> None:
    from alembic.script import ScriptDirectory

    folder = Path(__file__).parents[3] / side / "migrations"
    scripts = ScriptDirectory(str(folder))
    assert revisions(folder) == {script.revision for script in scripts.walk_revisions()}
    assert max(revisions(folder)) == scripts.get_current_head()
