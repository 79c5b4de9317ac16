"""The README's federation, command by command as it is printed, and then one more patient at another hospital."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.consent.overview import read_revocations

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv" / "bin"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(not (BIN / "fedforget-server").exists(), reason="the README's commands need `make setup`"),
]


def printed() -> list[str]:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## A real federation")[1].split("\n## ")[0]
    (block,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    return block.strip().splitlines()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """A folder in which the printed paths mean the repository's programs, and runs of the test's own."""
    for name in ("deploy", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    yield tmp_path
    subprocess.run([ROOT / "deploy" / "local-federation", "stop", tmp_path / "runs" / "federation"], check=True)


def test_the_readmes_federation_forgets_sixteen_patients_and_then_one(here: Path) -> None:
    *commands, stop = printed()
    output = {}
    for command in commands:
        done = subprocess.run(shlex.split(command), cwd=here, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        output[command.split("/")[-1].split(" --")[0]] = done.stdout
    federation = here / "runs" / "federation"

    def server(*command: str) -> list[dict[str, str]]:
        argv = [BIN / "fedforget-server", *command, "--dir", federation / "server", "--json"]
        return json.loads(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=600).stdout)

    states = {version["version"]: version["state"] for version in server("models", "list")}
    assert states == {"v0001": "quarantined", "v0002": "active"}
    training, campaign = server("campaign", "list")
    assert (training["kind"], training["state"]) == ("training", "published")
    assert (campaign["kind"], campaign["state"], campaign["result"]) == ("unlearning", "published", "v0002")
    north = read_revocations(federation / "north")
    assert len(north.tombstones) == 16
    assert not north.pending
    # One patient is too few to decide anything: the policy is to train again without him.
    site = [
        BIN / "fedforget-site",
        "revoke",
        "--patient-file",
        federation / "letter.txt",
        "--dir",
        federation / "south",
    ]
    subprocess.run(site, check=True, capture_output=True, timeout=60)
    server("campaign", "watch", "--next")
    last = server("campaign", "list")[-1]
    assert last["state"] == "published"
    assert "retrain" in last["reason"]
    details = server("campaign", "show", str(last["number"]))
    entered = [event["detail"].split(":")[0] for event in details["events"] if event["kind"] == "state"]
    assert entered[-2:] == ["retraining", "published"]
    assert not read_revocations(federation / "south").pending
    states = {version["version"]: version["state"] for version in server("models", "list")}
    assert states == {"v0001": "quarantined", "v0002": "quarantined", "v0003": "active"}
    check_offline(federation, campaign["number"])
    done = subprocess.run(shlex.split(stop), cwd=here, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    logs = "".join(path.read_text(errors="replace") for path in federation.rglob("*.log"))
    logs += "".join(path.read_text(errors="replace") for path in federation.rglob("*.jsonl"))
    for patient in north.tombstones:
        assert patient not in logs


def check_offline(federation: Path, campaign: str) -> None:
    """What was attested of the campaign verifies with the keys that coordinator and hospital hand out themselves."""
    audit, server, north = (federation / name for name in ("audit", "from-server", "from-north"))
    place = ["--dir", federation / "server", "--json"]
    export = [BIN / "fedforget-server", "attestation", "export", str(campaign), audit, "--whole-log", *place]
    end = time.monotonic() + 300
    # The hospital answers, signs and co-signs at its next heartbeats.
    while not (audit / "bundle.json").exists():
        assert time.monotonic() < end, "no hospital has signed the attestation"
        shutil.rmtree(audit, ignore_errors=True)
        time.sleep(5)
        subprocess.run(export, check=False, capture_output=True, timeout=120)
    hospital = federation / "north"
    for command in (
        [BIN / "fedforget-server", "log", "verify", *place],
        [BIN / "fedforget-server", "log", "export", server, *place],
        [BIN / "fedforget-site", "log", "verify", "--dir", hospital],
        [BIN / "fedforget-site", "log", "export", north, "--dir", hospital],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    keys = [f"--key=server={server / 'server.pub'}", f"--key=site={north / 'site.pub'}"]
    verify = [BIN / "fedforget-site", "verify", audit, *keys, f"--checkpoint={north / 'checkpoint-of-server.json'}"]
    done = subprocess.run(verify, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "signed by server, site" in done.stdout
    attestation = audit / "attestation.json"
    attestation.write_bytes(attestation.read_bytes().replace(b"A", b"B", 1))
    assert subprocess.run(verify, check=False, capture_output=True, timeout=120).returncode == 6
