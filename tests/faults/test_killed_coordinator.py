"""The coordinator is killed in every phase of a campaign; a new process ends it with the right model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from client.revocations import read_revocations
from client.site import Site
from common.model.traces import find_weights
from common.records import Subset
from server.house import open_house

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("coordinator_process.py")
STEPS = ["collect", "before", "unlearn:north", "retain:0", "select", "audit", "verdict", "audit:retrained", "published"]
KINDS = ["query.status", "train.unlearn", "train.retain", "train", "evaluate", "query.adopt"]


def run(world: Path, fault: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(world / "coordinator"), str(world / "hospitals"), fault],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def plan(world: Path, kind: str) -> int:
    house = open_house(world / "coordinator")
    active = house.registry.active()
    number = house.store.plan(
        kind,
        house.terms.model_dump(mode="json"),
        parent=active.name if active and kind == "unlearning" else None,
        due=None,
        reason="test",
    )
    house.engine.dispose()
    return number


@pytest.fixture(scope="session")
def trained(tmp_path_factory, federation_factory) -> tuple[Path, str]:
    """A coordinator and two hospitals that trained a first model and where a patient waits to be forgotten."""
    world = federation_factory(tmp_path_factory.mktemp("faults"))
    plan(world, "training")
    assert run(world, "none").stdout == "published\n"
    site = Site(world / "hospitals" / "north")
    site.revoke([sorted(site.patients(Subset.TRAIN))[0]])
    whole = tmp_path_factory.mktemp("whole") / "world"
    shutil.copytree(world, whole, symlinks=True)
    plan(whole, "unlearning")
    assert run(whole, "none").stdout == "published\n"
    house = open_house(whole / "coordinator")
    weights = house.registry.active().weights
    house.engine.dispose()
    return world, weights


@pytest.mark.parametrize(
    "fault", [*(f"kill:{s}" for s in STEPS), *(f"kill-before:{s}" for s in STEPS), *(f"kill-in:{k}" for k in KINDS)]
)
def test_a_killed_coordinator_loses_nothing_and_publishes_the_same_model(trained, tmp_path, fault):
    start, weights = trained
    world = tmp_path / "world"
    shutil.copytree(start, world, symlinks=True)
    number = plan(world, "unlearning")
    killed = run(world, fault)
    assert killed.returncode == -9, killed.stdout + killed.stderr
    again = run(world, "none")
    assert again.stdout == "published\n", again.stderr
    house = open_house(world / "coordinator")
    try:
        versions = {v.name: v.state for v in house.registry.versions()}
        assert versions == {"v0001": "quarantined", "v0002": "active"}
        assert house.registry.active().weights == weights
        unlearned = [p for p in house.store.phases(number) if p.step == "unlearn:north"]
        assert len(unlearned) == 1
        assert not house.store.folder(number).exists()
        old = house.registry.get("v0001").weights
    finally:
        house.engine.dispose()
    revoked = read_revocations(world / "hospitals" / "north")
    assert not revoked.pending
    assert len(revoked.tombstones) == 1
    for name in ("north", "south"):
        assert not find_weights(world / "hospitals" / name, [old])
