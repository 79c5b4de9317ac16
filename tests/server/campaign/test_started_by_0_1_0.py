"""A campaign that release 0.1.0 began, and whose coordinator was killed, goes on with today's code.

`started_by_0_1_0` was written by commit de7c232, the last one before 0.1.0 had a successor: two hospitals of 11 made-up
patients, a first model v0001, a revocation at one of them, and an unlearning campaign that was killed right after
this hospital's unlearned weights were in the journal. `coordinator.sql` is its SQLite database at revision 0002,
`server.tar.xz` holds versions and journal, and `{folder}` in the sites' files is the folder of the run.
"""

from __future__ import annotations

import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from client.app import app, open_site
from client.cohort.site import Site
from common.learning.model.card import ModelCard
from common.platform.sql import open_database
from server.campaign.running.lifecycle import CampaignRunner
from server.campaign.store import CampaignStore
from server.database import migrate, pending_migration
from server.registry.registry import Registry
from server.rounds.exchanges.connecting import connect
from simulations.run.local_grid import LocalGrid

FIXTURE = Path(__file__).parent / "started_by_0_1_0"
NOW = datetime(2026, 5, 1, 13, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the run's folder, at another place than the one where it began."""
    shutil.copytree(FIXTURE, tmp_path, dirs_exist_ok=True)
    with tarfile.open(FIXTURE / "server.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    for path in tmp_path.glob("sites/*/*.json"):
        path.write_text(path.read_text().replace("{folder}", str(tmp_path)))

    with sqlite3.connect(tmp_path / "server.db") as database:
        database.executescript((tmp_path / "coordinator.sql").read_text())
    database.close()

    return tmp_path


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{folder / 'server.db'}")
    yield engine
    engine.dispose()
    open_site.cache_clear()


def test_a_campaign_of_0_1_0_goes_on_and_forgets(folder: Path, engine: Engine) -> None:
    assert pending_migration(engine) is not None
    migrate(engine)

    registry = Registry(folder / "server" / "models", engine, lambda: NOW)
    store = CampaignStore(engine, folder / "server" / "work", lambda: NOW)
    card: ModelCard = registry.card("v0001")
    sites = {name: folder / "sites" / name for name in ("north", "south")}
    nodes = {number: {"site-dir": str(path)} for number, path in enumerate(sites.values(), start=1)}
    waiting = store.open()
    assert waiting is not None
    number = waiting.number

    # The stage that 0.1.0 finished is read from its journal, not asked for again.
    grid = LocalGrid(app, nodes)
    runner = CampaignRunner(connect(grid, len(nodes)), store, registry, card)
    state = runner.carry_on(number, store.take_up(number))

    campaign = store.get(number)
    assert state == "published", campaign.reason
    assert campaign.result == "v0002"
    assert [version.state for version in registry.versions()] == ["quarantined", "active"]
    assert not Site(sites["north"]).forget
