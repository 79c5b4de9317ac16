"""A hospital fails in the middle of a campaign: the right model, nothing lost, nobody back, and it is on record."""

from __future__ import annotations

import pytest
from faulty_world import World

from client.revocations.tombstones.overview import read_revocations

RECOVERED = [
    "gone:query.status",
    "gone:train.unlearn",
    "lost:train.unlearn",
    "clock:train.unlearn",
    "forged:train.unlearn",
    "nan:train.unlearn",
    "huge:train.unlearn",
    "shapes:train.unlearn",
    "twice:train.unlearn",
    "twice:train.retain",
    "lost:query.adopt",
    "gone:query.adopt",
    "disk:publish",
]
"""Asked again, or taken once, the hospital's part is the same: so is the model."""
GONE_ON = [
    "other-gone:train.retain",
    "other-nan:train.retain",
    "other-examples:train.retain",
    "other-forged:train.retain",
]
"""The round goes on without it."""


@pytest.mark.parametrize(("start", "fault"), [("accepting", fault) for fault in RECOVERED], indirect=["start"])
def test_a_campaign_survives_and_ends_in_the_same_model(start: World, fault: str) -> None:
    number = start.plan()
    done = start.run(fault)
    assert done.stdout == "published\n", done.stderr

    with start.house() as house:
        assert {v.name: v.state for v in house.registry.versions()} == {"v0001": "quarantined", "v0002": "active"}
        assert start.active().weights == start.weights
        kinds = [event.kind for event in house.store.events(number)]
        waited = kinds.count("waiting")
        quarantined = kinds.count("quarantined")

    how = fault.split(":", maxsplit=1)[0]
    assert quarantined == (how in {"nan", "huge", "shapes", "forged"})
    assert waited == (how not in {"twice"} and "adopt" not in fault)
    revoked = read_revocations(start.folder / "hospitals" / "north")
    assert len(revoked.tombstones) == 3
    assert bool(revoked.pending) == (fault == "gone:query.adopt")


@pytest.mark.parametrize("start", ["accepting"], indirect=True)
def test_a_hospital_that_missed_the_publication_closes_its_campaign_at_the_next_one(start: World) -> None:
    start.plan()
    start.run("gone:query.adopt")
    assert read_revocations(start.folder / "hospitals" / "north").pending
    start.plan("training")
    start.run("none")
    assert not read_revocations(start.folder / "hospitals" / "north").pending


@pytest.mark.parametrize(("start", "fault"), [("accepting", fault) for fault in GONE_ON], indirect=["start"])
def test_a_retention_round_goes_on_without_a_hospital_and_says_so(start: World, fault: str) -> None:
    number = start.plan()
    done = start.run(fault)
    assert done.stdout == "published\n", done.stderr

    assert start.active().name == "v0002"
    assert start.active().weights != start.weights
    with start.house() as house:
        late = [event.detail for event in house.store.events(number) if event.kind == "late"]
        quarantined = [event for event in house.store.events(number) if event.kind == "quarantined"]

    assert late == ["retain round 0 went on without south"]
    assert [event.site for event in quarantined] == ([] if "gone" in fault else ["south"])


@pytest.mark.parametrize("start", ["accepting"], indirect=True)
def test_a_hospital_that_hangs_is_waited_for_until_the_deadline_and_no_longer(start: World) -> None:
    file = start.folder / "coordinator" / "server.toml"
    file.write_text(file.read_text().replace("phase_hours = 0.05", "phase_hours = 0.001"))
    start.plan()
    done = start.run("other-hang:train.retain")
    assert done.stdout == "published\n", done.stderr
    assert start.active().name == "v0002"


@pytest.mark.parametrize("start", ["accepting"], indirect=True)
def test_a_damaged_database_is_named_and_its_backup_goes_on(start: World) -> None:
    start.plan()
    database = start.folder / "coordinator" / "server.db"
    backup = database.read_bytes()
    database.write_bytes(b"damaged" * 4096)
    for name in ("server.db-wal", "server.db-shm"):
        (database.parent / name).unlink(missing_ok=True)
    broken = start.run("none")
    assert broken.returncode != 0
    assert "the database is damaged" in broken.stderr
    assert "restore it from its backup" in broken.stderr
    database.write_bytes(backup)
    assert start.run("none").stdout == "published\n"
    assert start.active().weights == start.weights
