"""What a hospital installs: pinned by hash, and nothing that simulations alone need."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SIMULATION_ONLY = ("ray", "matplotlib", "tensorboard")
PROGRAM = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

BLOCKED = sys.argv[1].split(",")
sys.meta_path.insert(0, Blocked())
count = 0
for package in ("common", "client", "server"):
    for module in pkgutil.walk_packages([package], package + "."):
        if ".migrations" not in module.name:
            importlib.import_module(module.name)
            count += 1
print(count)
"""


def locked(file: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes by package."""
    found: dict[str, tuple[str, int]] = {}
    name = ""

    for line in (FOLDER / file).read_text(encoding="utf-8").splitlines():
        if pin := re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)(?: ;.*)? \\", line):
            name = canonicalize_name(pin[1])
            found[name] = (pin[2], 0)
        elif re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?", line):
            found[name] = (found[name][0], found[name][1] + 1)
        else:
            assert not line or re.match(r" *#", line), line

    return found


@pytest.mark.parametrize("file", ["cuda.txt", "without-torch.txt"])
def test_every_dependency_is_pinned_by_hash_within_its_range(file: str) -> None:
    found = locked(file)
    assert all(hashes for _, hashes in found.values())

    for text in PROJECT["dependencies"]:
        wanted = Requirement(text)
        if wanted.name == "torch" and file != "cuda.txt":
            continue
        version, _ = found[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), text

    assert not found.keys() & {*SIMULATION_ONLY}


def test_the_two_locks_differ_by_pytorch_alone() -> None:
    cuda = locked("cuda.txt")
    without = locked("without-torch.txt")
    assert without.items() <= cuda.items()
    assert all(re.match(r"torch$|triton$|nvidia-|cuda-", name) for name in cuda.keys() - without.keys())


def test_hospital_and_coordinator_import_nothing_that_simulations_alone_need() -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, ",".join(SIMULATION_ONLY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 150


def test_no_service_leaves_a_core_file_with_weights_or_ids() -> None:
    for unit in (ROOT / "deploy" / "systemd").glob("*.service"):
        assert "\nLimitCORE=0\n" in unit.read_text(encoding="utf-8")
