"""The README's federation, command by command as it is printed; then a hospital's EHR in which consents are withdrawn.

From there the whole way: ledger, campaign, attestation, and its check offline, by our verifier and by openssl alone.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from ehr import FhirStub, consent

from client.revocations.tombstones.overview import read_revocations

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv" / "bin"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.usefixtures("prompt"),
    pytest.mark.skipif(not (BIN / "fedforget-server").exists(), reason="the README's commands need `make setup`"),
]


def printed() -> list[str]:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## A real federation")[1].split("\n## ")[0]
    (block,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    return str(block).strip().splitlines()


@dataclass(frozen=True)
class Here:
    """A folder in which the printed paths mean the repository's programs, and the federation in it."""

    root: Path
    restarted: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def federation(self) -> Path:
        return self.root / "runs" / "federation"

    def run(self, command: str) -> str:
        """A printed command, as it stands."""
        done = subprocess.run(
            shlex.split(command), cwd=self.root, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def server(self, *command: object) -> str:
        return said(BIN / "fedforget-server", *command, "--dir", self.federation / "server", "--json")

    def site(self, name: str, *command: object) -> str:
        return said(BIN / "fedforget-site", *command, "--dir", self.federation / name)

    def versions(self) -> dict[str, str]:
        return {version["version"]: version["state"] for version in json.loads(self.server("models", "list"))}

    def restart(self, name: str) -> None:
        """What a service manager does after a change of `site.toml`."""
        pids = self.federation / "pids"
        running = pids.read_text().split()
        at = ("server", "north", "south", "west").index(name)
        os.kill(int(running[at]), signal.SIGTERM)
        wait_for(lambda: not Path(f"/proc/{running[at]}").exists(), f"the end of {name}", 60)

        with (self.federation / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [BIN / "fedforget-site", "up", "--dir", self.federation / name],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        self.restarted.append(process)
        running[at] = str(process.pid)
        pids.write_text("".join(f"{pid}\n" for pid in running))


def said(*argv: object) -> str:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_for(holds: Callable[[], bool], what: str, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.5)


@pytest.fixture
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """All of the README's commands but the last, which stops the federation."""
    found = Here(tmp_path_factory.mktemp("readme"))
    for name in ("deploy", ".venv"):
        (found.root / name).symlink_to(ROOT / name)
    *commands, stop = printed()
    try:
        for command in commands:
            found.run(command)
        yield found
    finally:
        found.run(stop)
        for process in found.restarted:
            process.wait(60)


@pytest.fixture
def ehr() -> Iterator[FhirStub]:
    stub = FhirStub()
    yield stub
    stub.close()


def check_the_readme(here: Here) -> None:
    """Sixteen patients of one hospital are forgotten, by unlearning."""
    assert here.versions() == {"v0001": "quarantined", "v0002": "active"}
    training, campaign = json.loads(here.server("campaign", "list"))
    assert (training["kind"], training["state"]) == ("training", "published")
    assert (campaign["kind"], campaign["state"], campaign["result"]) == ("unlearning", "published", "v0002")
    north = read_revocations(here.federation / "north")
    assert len(north.tombstones) == 16
    assert not north.pending


def test_the_readmes_federation_forgets_and_then_consents_withdrawn_in_an_ehr_and_anybody_can_check_it(
    here: Here, ehr: FhirStub, tmp_path: Path
) -> None:
    # One test: with several workers a second one would start a federation of its own.
    check_the_readme(here)
    subsets = json.loads((here.federation / "south" / "site.json").read_text())["subsets"]
    patients = sorted(patient for patient, subset in subsets.items() if subset == "train")[:4]
    for number, patient in enumerate(patients):
        ehr.write(consent(f"c-{number}", patient))
    port, token = take_consents_from(here, "south", ehr)
    for number, patient in enumerate(patients[:2]):
        ehr.write(consent(f"c-{number}", patient, "inactive"))
    poke = httpx.post(
        f"http://127.0.0.1:{port}/fhir/hook", headers={"authorization": f"Bearer {token}"}, trust_env=False
    )
    assert poke.is_success, poke.text
    wait_for(lambda: read_revocations(here.federation / "south").tombstones >= set(patients[:2]), "the withdrawals")
    assert read_revocations(here.federation / "south").tombstones == set(patients[:2])
    here.server("campaign", "watch", "--next")
    # The third: on a busy machine another is planned before the hospital announces that nobody waits any more.
    _, _, campaign = json.loads(here.server("campaign", "list"))[:3]
    assert campaign["state"] == "published", campaign["reason"]
    # Two patients are too few to decide anything: the policy is to train again without them.
    assert "retrain" in campaign["reason"]
    assert here.versions() == {"v0001": "quarantined", "v0002": "quarantined", "v0003": "active"}
    assert not read_revocations(here.federation / "south").pending
    audit = evidence_of(here, campaign["number"], tmp_path)
    check_with_the_verifier(audit, tmp_path / "whole")
    check_with_openssl(audit)
    named = {*patients, *read_revocations(here.federation / "north").tombstones}
    for path in (*here.federation.rglob("*.log"), *here.federation.rglob("*.jsonl"), *audit.iterdir()):
        text = path.read_bytes()
        assert not [patient for patient in named if patient.encode() in text], path.name


def take_consents_from(here: Here, name: str, ehr: FhirStub) -> tuple[int, str]:
    """Turn the hospital's FHIR endpoint on, and wait until it has read what the EHR has; its port and token."""
    folder = here.federation / name
    here.site(name, "fhir", "init")
    # It answers, signs and co-signs at heartbeats, which are a minute apart.
    here.site(name, "settings", "set", "heartbeat_seconds", "2")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (folder / "site.toml").open("a") as settings:
        settings.write(f'\n[fhir]\nenabled = true\nport = {port}\nserver = "{ehr.base}"\n')
    here.restart(name)

    def has_read() -> bool:
        return bool(json.loads(here.site(name, "fhir", "status", "--json"))["permit"])

    wait_for(has_read, "the first pull")

    return port, (folder / "fhir" / "token").read_text()


def evidence_of(here: Here, campaign: str, folder: Path) -> Path:
    """A folder with what coordinator and hospital each hand out about a campaign."""
    audit, server, south = (folder / name for name in ("audit", "from-server", "from-south"))

    def exported() -> bool:
        # The hospital answers, signs and co-signs at its next heartbeats.
        shutil.rmtree(audit, ignore_errors=True)
        export: list[str | Path] = [BIN / "fedforget-server", "attestation", "export", str(campaign), audit]
        subprocess.run([*export, "--dir", here.federation / "server"], check=False, capture_output=True, timeout=120)
        return (audit / "bundle.json").exists()

    wait_for(exported, "the hospital's signature")
    # The hospital's checkpoint first: the coordinator's log grows, and shown later it has at least those leaves.
    here.site("south", "log", "verify")
    here.site("south", "log", "export", south)
    here.server("attestation", "export", campaign, folder / "whole", "--whole-log")
    here.server("log", "verify")
    here.server("log", "export", server)
    receipts = {entry.receipt for entry in read_revocations(here.federation / "south").patients.values()}
    here.site("south", "log", "statement", min(receipts), audit / "revocation.json")
    model = here.federation / "server" / "models" / "v0003" / "model.safetensors"

    for path in (
        server / "server.pub",
        server / "leaves.jsonl",
        south / "site.pub",
        south / "checkpoint-of-server.json",
        model,
    ):
        shutil.copy(path, audit / path.name)

    return audit


def check_with_the_verifier(audit: Path, whole: Path) -> None:
    keys = [f"--key={name}={audit / name}.pub" for name in ("server", "site")]
    more = [f"--{name.partition('-')[0]}={audit / name}.json" for name in ("checkpoint-of-server", "revocation")]
    verify: list[str | Path] = [
        BIN / "fedforget-site",
        "verify",
        whole,
        *keys,
        *more,
        f"--model={audit / 'model.safetensors'}",
    ]
    done = subprocess.run(verify, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "signed by server, site" in done.stdout
    attestation = whole / "attestation.json"
    attestation.write_bytes(attestation.read_bytes().replace(b"A", b"B", 1))
    assert subprocess.run(verify, check=False, capture_output=True, timeout=120).returncode == 6


def check_with_openssl(audit: Path) -> None:
    document = (ROOT / "docs" / "verify-with-openssl.md").read_text(encoding="utf-8")
    commands = "".join(re.findall(r"```bash\n(.*?)```", document, re.DOTALL))
    done = subprocess.run(["bash", "-c", commands], cwd=audit, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("the leaves lead to both roots that were signed\n")
