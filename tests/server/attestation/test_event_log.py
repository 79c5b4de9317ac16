"""The log in both databases: nothing is lost or logged twice, and a changed key is no changed log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from common.evidence import dsse
from common.evidence.keys import SigningKey
from common.evidence.log import merkle
from common.evidence.log.log_checkpoint import Checkpoint
from common.evidence.log.tree_log import Entry
from common.evidence.schema import decode
from common.platform.event_log.store import EventLog, Record, only
from common.platform.sql import open_database, transaction
from server.attestation.event_log import examine, follow, server_log
from server.database import EventRow, migrate

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = SigningKey.generate()
on_both = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def engine(database: Callable[[str], str]) -> Iterator[Engine]:
    engine = open_database(database("server"))
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def log() -> EventLog:
    return server_log(lambda: NOW)


def happen(engine: Engine, *kinds: str) -> None:
    with transaction(engine) as session:
        session.add_all(EventRow(at=NOW, kind=kind, detail="published: v0001") for kind in kinds)


def kinds_of(engine: Engine, log: EventLog) -> list[str]:
    with transaction(engine) as session:
        assert examine(session, log, KEY.public) == []
        return [decode(Entry, leaf).kind for leaf in log.leaves(session)]


@on_both
def test_events_that_matter_are_logged_once_whoever_looks(engine: Engine, log: EventLog) -> None:
    happen(engine, "enrolled", "announced", "state", "version", "purged")
    assert follow(engine, log, KEY)
    assert not follow(engine, log, KEY)
    happen(engine, "revoked")
    assert follow(engine, log, KEY)
    assert kinds_of(engine, log) == ["key", "enrolled", "campaign-published", "purged", "revoked"]


@on_both
def test_writers_at_the_same_time_neither_lose_a_leaf_nor_write_it_twice(engine: Engine, log: EventLog) -> None:
    def write(number: int) -> None:
        for _ in range(5):
            happen(engine, f"kind-{number}")
            follow(engine, log, KEY)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert sorted(kinds_of(engine, log)) == sorted(["key", *(f"kind-{n}" for n in range(4) for _ in range(5))])


def test_every_checkpoint_has_the_root_of_the_leaves_that_it_counts(engine: Engine, log: EventLog) -> None:
    for size in (1, 2, 5, 8):
        happen(engine, *["purged"] * size)
        follow(engine, log, KEY)

    with transaction(engine) as session:
        leaves = log.leaves(session)
        found = [decode(Checkpoint, envelope.body) for envelope in log.checkpoints(session)]

    assert [c.size for c in found] == [17, 9, 4, 2]
    assert all(c.root == merkle.grow(leaves[: c.size]).root.hex() for c in found)


def test_after_a_rotation_the_log_names_the_new_key_and_what_the_old_one_signed_holds(
    engine: Engine, log: EventLog
) -> None:
    happen(engine, "enrolled")
    follow(engine, log, KEY)
    new = SigningKey.generate()
    assert follow(engine, log, new)

    with transaction(engine) as session:
        assert examine(session, log, new.public) == []
        assert [decode(Entry, leaf).kind for leaf in log.leaves(session)] == ["key", "enrolled", "key"]
        stranger = SigningKey.generate().public
        assert "signed with the key of today" in examine(session, log, stranger)[0]


def test_a_peers_signature_is_kept_below_the_owners_and_no_other(engine: Engine, log: EventLog) -> None:
    north = SigningKey.generate()
    south = SigningKey.generate()
    happen(engine, "enrolled")
    follow(engine, log, KEY)

    with transaction(engine) as session:
        own = log.newest(session)
        assert own is not None
        for peer in (north, south, north):
            log.take_signature(session, dsse.add_signature(own, peer), KEY.public, peer.public)
        newest = log.newest(session)
        assert newest is not None
        assert len(newest.signatures) == 3
        assert only(newest, KEY.public) == own
        other = server_log(lambda: NOW)
        assert other.append(session, [Record("more", "purged", b"{}")], KEY)
        grown = log.newest(session)
        assert grown is not None
        assert grown.signatures != newest.signatures
        assert len(grown.signatures) == 1
