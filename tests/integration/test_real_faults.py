"""Real Flower processes are killed with -9 in one campaign, one after the other; it ends in the right model."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from client.consent.overview import read_revocations
from common.model.traces import find_weights
from server.house import House, open_house
from server.states import CampaignState

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv" / "bin"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(not (BIN / "fedforget-server").exists(), reason="the commands need `make setup`"),
]


def command(*argv: object) -> None:
    done = subprocess.run([str(a) for a in argv], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def kill(folder: Path, *words: str) -> None:
    """SIGKILL to all processes of a folder that have these words in their command line; at least one there is."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line and all(word in line for word in words):
            found.append(process)
    assert found, f"no process of {folder.name} with {words}"
    for process in found:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "federation"
    command("deploy/local-federation", "start", folder, "--patients", "24", "--rounds", "1")
    yield folder
    command("deploy/local-federation", "stop", folder)


def until(house: House, number: int, holds: Callable[[CampaignState], bool], seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not holds(CampaignState(house.store.get(number).state)):
        assert time.monotonic() < end, f"the campaign is still {house.store.get(number).state}"
        time.sleep(0.2)


def test_a_campaign_survives_its_coordinator_superlink_and_hospitals_being_killed(federation: Path) -> None:
    server, south, west = (federation / name for name in ("server", "south", "west"))
    command(BIN / "fedforget-server", "train", "--dir", server, "--wait")
    command(BIN / "fedforget-site", "revoke", "--patient-file", federation / "letter.txt", "--dir", south)
    house = open_house(server)
    try:
        end = time.monotonic() + 120
        while (row := house.store.open()) is None:
            assert time.monotonic() < end, "no campaign was planned"
            time.sleep(0.2)
        order = list(CampaignState)

        def reached(state: CampaignState) -> None:
            until(house, row.number, lambda now: order.index(now) >= order.index(state))

        reached(CampaignState.COLLECTING)
        kill(server, "server.coordinator")
        reached(CampaignState.UNLEARNING)
        # The forgetting hospital as a whole, as when its machine loses power; its service manager starts it again.
        up = next(p for p in psutil.process_iter(["cmdline"]) if _is_up(p, south))
        os.killpg(up.pid, signal.SIGKILL)
        again = subprocess.Popen(
            [BIN / "fedforget-site", "up", "--dir", south],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with (federation / "pids").open("a") as file:
            file.write(f"{again.pid}\n")
        reached(CampaignState.RETAINING)
        kill(west, "flower-supernode")
        reached(CampaignState.EVALUATING)
        kill(server, "server.superlink")
        reached(CampaignState.RETRAINING)
        kill(server, "flower-superexec")
        until(house, row.number, lambda now: now.ended)
        found = house.store.get(row.number)
        assert found.state == "published", found.reason
        assert {v.name: v.state for v in house.registry.versions()} == {"v0001": "quarantined", "v0002": "active"}
        assert len([p for p in house.store.phases(row.number) if p.step.startswith("unlearn:")]) == 1
        old = house.registry.get("v0001").weights
        got = {delivery.site for delivery in house.registry.recipients("v0002")}
    finally:
        house.engine.dispose()
    assert "south" in got
    assert not read_revocations(south).pending
    for name in got:
        assert not find_weights(federation / name, [old])
    again.send_signal(signal.SIGTERM)
    again.wait(60)


def _is_up(process: psutil.Process, folder: Path) -> bool:
    line = process.info["cmdline"] or []
    return "up" in line and str(folder) in line
