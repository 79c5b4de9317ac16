"""What SQLite gives by letting one writer in at a time, PostgreSQL must give by locks on rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine

from common.errors import RefusedError
from common.platform.sql import open_database, transaction
from server.campaign.store import CampaignStore
from server.database import Base, CampaignRow, migrate, pending_migration
from server.rounds.states import CampaignState

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TIMES = 15


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    engine = open_database(postgres_url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def stores(engine: Engine, postgres_url: str, tmp_path: Path) -> Iterator[tuple[CampaignStore, CampaignStore]]:
    """Two coordinators that share nothing but the database."""
    other = open_database(postgres_url)
    yield CampaignStore(engine, tmp_path, lambda: NOW), CampaignStore(other, tmp_path, lambda: NOW)
    other.dispose()


def plan(store: CampaignStore) -> int:
    return store.plan("training", {}, parent=None, due=None, reason="test")


def test_the_migrations_give_exactly_the_tables_of_the_code_on_postgresql(postgres_url: str) -> None:
    engine = open_database(postgres_url)
    assert pending_migration(engine) == "empty"
    migrate(engine)
    migrate(engine)
    assert pending_migration(engine) is None
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_two_coordinators_that_take_up_a_campaign_at_once_never_get_the_same_attempt(
    stores: tuple[CampaignStore, CampaignStore],
) -> None:
    number = plan(stores[0])
    start = threading.Barrier(2)

    def take_up(store: CampaignStore) -> list[int]:
        start.wait(10)
        return [store.take_up(number) for _ in range(TIMES)]

    with ThreadPoolExecutor(2) as pool:
        attempts = [attempt for taken in pool.map(take_up, stores) for attempt in taken]
    assert sorted(attempts) == list(range(1, 2 * TIMES + 1))


def test_whoever_takes_a_campaign_up_waits_for_the_one_who_is_writing_to_it(
    stores: tuple[CampaignStore, CampaignStore],
) -> None:
    number = plan(stores[0])
    with ThreadPoolExecutor(1) as pool:
        with transaction(stores[0].engine) as session:
            row = session.get_one(CampaignRow, number, with_for_update=True)
            row.attempt = 7
            session.flush()
            taken = pool.submit(stores[1].take_up, number)
            assert not wait([taken], 0.5).done

        assert taken.result(10) == 8


def test_of_two_coordinators_that_plan_at_once_one_is_refused(stores: tuple[CampaignStore, CampaignStore]) -> None:
    for _ in range(3):
        start = threading.Barrier(2)

        def planned(store: CampaignStore, start: threading.Barrier = start) -> int | None:
            start.wait(10)
            try:
                return plan(store)
            except RefusedError:
                return None

        with ThreadPoolExecutor(2) as pool:
            numbers = list(pool.map(planned, stores))
        assert numbers.count(None) == 1
        (number,) = (n for n in numbers if n is not None)
        stores[0].end(number, CampaignState.CANCELLED, "test")
