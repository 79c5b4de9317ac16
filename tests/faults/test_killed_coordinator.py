"""The coordinator is killed in every phase of a campaign; a new process ends it with the right model."""

from __future__ import annotations

import pytest
from faulty_world import World

from client.revocations.tombstones.overview import read_revocations
from common.learning.model.traces import find_weights

SHARED = ["collect", "before", "unlearn:north", "retain:0", "select", "audit", "verdict", "published"]
KINDS = ["query.status", "train.unlearn", "train.retain", "evaluate", "query.adopt"]
FAULTS = [*(f"kill:{s}" for s in SHARED), *(f"kill-before:{s}" for s in SHARED), *(f"kill:{k}" for k in KINDS)]
RETRAINING = ["kill:train", "kill:audit:retrained", "kill-before:published"]


@pytest.mark.parametrize(
    ("start", "fault"),
    [*(("accepting", fault) for fault in FAULTS), *(("undecided", fault) for fault in RETRAINING)],
    indirect=["start"],
)
def test_a_killed_coordinator_loses_nothing_and_ends_in_the_same_model(start: World, fault: str) -> None:
    number = start.plan()
    killed = start.run(fault)
    assert killed.returncode == -9, killed.stdout + killed.stderr
    again = start.run("none")
    assert again.stdout == "published\n", again.stderr

    with start.house() as house:
        assert {v.name: v.state for v in house.registry.versions()} == {"v0001": "quarantined", "v0002": "active"}
        assert start.active().weights == start.weights
        steps = [phase.step for phase in house.store.phases(number)]
        # Three patients decide nothing under honest margins, so that campaign retrains without unlearning first.
        assert steps.count("unlearn:north") == ("audit:retrained" not in steps)
        assert not house.store.folder(number).exists()
        old = house.registry.get("v0001").weights

    for name in ("north", "south"):
        revoked = read_revocations(start.folder / "hospitals" / name)
        assert not revoked.pending
        assert len(revoked.tombstones) == (3 if name == "north" else 0)
        assert not find_weights(start.folder / "hospitals" / name, [old])
