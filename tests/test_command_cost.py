"""What commands cost before they do anything: none that can do without torch or Flower imports it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from client.membership.setup import SiteRequest, create_site
from common.platform.keys.certificates import certificate_fingerprint, read_certificate

if TYPE_CHECKING:
    from common.learning.model.card import ModelCard
    from common.learning.records import Cohort
    from server.settings import ServerFolder

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "weasyprint", "flwr", "transformers", "sklearn", "scipy", "matplotlib", "pydicom", "ray", "fastapi")
"""Packages that take from a third of a second to several seconds to import."""
PROGRAM = """
import json, sys
from typer.testing import CliRunner
module, heavy, commands = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
app = __import__(module + ".cli", fromlist=["app"]).app
found = []
for command in [["--help"], *commands]:
    result = CliRunner().invoke(app, command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    found.append([command, result.exit_code, result.output, [name for name in heavy if name in sys.modules]])
print(json.dumps(found))
"""
HELP_SECONDS = 0.5
LISTING_SECONDS = 1.0
"""What a quiet machine needs no more than; docs/results/bench.md has the figures."""
SLACK = 4.0
"""A machine with other work, without compiled bytecode, measures more."""


def imported(module: str, commands: Sequence[Sequence[object]]) -> None:
    """Run commands in one process, each of which ends with 0, and fail with the first that brings something heavy."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, module, json.dumps(HEAVY), words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for command, code, output, heavy in json.loads(done.stdout):
        assert heavy == [], " ".join(command)
        assert code == 0, f"{' '.join(command)}: {output}"


def cpu_seconds(*argv: object) -> float:
    """CPU time of a process and of what it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr

    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.fixture
def hospital(tmp_path: Path, coordinator: ServerFolder) -> Path:
    """A hospital that has asked to enrol."""
    ca = certificate_fingerprint(read_certificate(coordinator.ca_certificate.read_bytes(), "ca"))
    create_site(tmp_path / "north", SiteRequest("north", "localhost", ca))
    return tmp_path / "north"


def test_the_coordinators_commands_import_nothing_heavy(
    coordinator: ServerFolder, hospital: Path, tmp_path: Path
) -> None:
    request = hospital / "enrolment-request.json"
    from common.platform.keys.certificates import fingerprint

    of = ("--dir", coordinator.root)
    compared = ("--fingerprint", fingerprint(request.read_bytes()), "--out", tmp_path / "join.json")
    imported(
        "server",
        [
            ("init", tmp_path / "other", "--host", "localhost"),
            ("certificate", "renew", *of),
            ("site", "list", *of),
            ("site", "approve", request, *compared, *of),
            ("site", "list", *of),
            ("site", "show", "north", *of),
            ("train", *of),
            ("campaign", "list", *of),
            ("campaign", "show", "1", *of),
            ("campaign", "cancel", "1", "--reason", "a test", *of),
            ("models", "list", *of),
            ("models", "verify", *of),
            ("log", "show", *of),
            ("log", "verify", *of),
            ("log", "export", tmp_path / "exported", *of),
            ("site", "revoke", "north", "--reason", "a test", *of),
            ("rotate", "--out", tmp_path / "bundles", *of),
        ],
    )


@pytest.fixture
def joined(site_of: Callable[[str], Path]) -> Path:
    return site_of("north")


@pytest.fixture
def site_of(
    tmp_path: Path, enrol: Callable[[Path, str], Path], cohort_of: Callable[..., Cohort], card: ModelCard
) -> Callable[[str], Path]:
    """A hospital that has joined and registered its patients."""
    from client.cohort.site_files import write_site
    from common.learning.records import Split, Subset

    def make(name: str) -> Path:
        cohort = cohort_of(4, name=name, studies=1)
        split = Split(dict.fromkeys(cohort.patients, Subset.TRAIN))
        simulated = tmp_path / "simulated" / name
        write_site(simulated, cohort, split, card, name=name, seed=0, device="cpu", cache=tmp_path / "cache")

        return enrol(simulated, name)

    return make


def test_a_hospitals_commands_import_nothing_heavy(joined: Path, tmp_path: Path) -> None:
    of = ("--dir", joined)
    (tmp_path / "ids.txt").write_text("north-0\n")
    (tmp_path / "passphrase").write_text("correct horse battery staple")
    os.chmod(tmp_path / "ids.txt", 0o600)
    os.chmod(tmp_path / "passphrase", 0o600)
    imported(
        "client",
        [
            ("data", "show", *of),
            ("revoke", "--patient-file", tmp_path / "ids.txt", *of),
            ("revocations", "list", *of),
            ("revocations", "export", tmp_path / "record.csv", *of),
            ("fhir", "init", *of),
            ("consent-client", "init", "--host", "localhost", *of),
            ("consent-client", "add", "ehr", "--role", "ehr", *of),
            ("consent-client", "list", *of),
            ("consent-client", "remove", "ehr", *of),
            ("steward", "init", "--passphrase-file", tmp_path / "passphrase", *of),
            ("steward", "list", *of),
            ("log", "show", *of),
            ("log", "verify", *of),
            ("log", "export", tmp_path / "exported", *of),
            ("log", "audit-events", tmp_path / "events.json", *of),
            ("verifier", tmp_path / "verify.pyz"),
            ("rotate", *of),
        ],
    )


def test_the_simulators_help_imports_nothing_heavy() -> None:
    imported("simulations", [("run", "--help"), ("compare", "--help")])


@pytest.mark.parametrize("side", ["server", "site", "sim"])
def test_help_takes_a_fraction_of_a_second_of_cpu(side: str) -> None:
    program = Path(sys.executable).with_name(f"fedforget-{side}")
    assert cpu_seconds(program, "--help") < SLACK * HELP_SECONDS


def test_listings_take_less_than_a_second_of_cpu(coordinator: ServerFolder) -> None:
    program = Path(sys.executable).with_name("fedforget-server")
    for listing in ("site", "campaign", "models"):
        assert cpu_seconds(program, listing, "list", "--dir", coordinator.root) < SLACK * LISTING_SECONDS
