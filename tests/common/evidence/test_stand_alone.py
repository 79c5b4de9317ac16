from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from evidence_files import Evidence

from common.evidence.stand_alone import verifier_archive

RUN = """
import runpy, sys
sys.path.append({packages!r})
sys.argv = {argv!r}
runpy.run_path({file!r}, run_name="__main__")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "verify.pyz"
    path.write_bytes(verifier_archive())
    return path


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder in which only `cryptography` and what it is built on can be found."""
    folder = tmp_path / "packages"
    folder.mkdir()

    for name in ("cryptography", "cffi", "_cffi_backend"):
        spec = find_spec(name)
        assert spec
        assert spec.origin
        place = Path(spec.origin) if spec.submodule_search_locations is None else Path(spec.origin).parent
        (folder / place.name).symlink_to(place)

    return folder


def run(file: Path, packages: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Without site-packages, the user's own packages, the environment and the working directory."""
    code = RUN.format(packages=str(packages), argv=[file.name, *arguments], file=str(file))
    command = [sys.executable, "-I", "-S", "-c", code]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)


def test_an_auditor_runs_the_one_file_with_cryptography_alone(
    evidence: Evidence, file: Path, packages: Path, tmp_path: Path
) -> None:
    for name, data in {
        "attestation.json": evidence.attestation,
        "bundle.json": evidence.bundle,
        "site.pub": evidence.site.public.pem,
        "server.pub": evidence.server.public.pem,
    }.items():
        (tmp_path / name).write_bytes(data)

    keys = (f"--key=site={tmp_path}/site.pub", f"--key=server={tmp_path}/server.pub")
    arguments = (f"{tmp_path}/attestation.json", *keys, f"--log={tmp_path}/bundle.json")
    done = run(file, packages, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Everything checked holds.\n")
    (tmp_path / "attestation.json").write_bytes(evidence.attestation.replace(b"A", b"B", 1))
    done = run(file, packages, *arguments)
    assert done.returncode == 6, done.stderr
    assert "NOT TO BE RELIED ON" in done.stdout


def test_the_one_file_says_how_it_is_run(file: Path, packages: Path) -> None:
    done = run(file, packages, "--help")
    assert done.returncode == 0
    assert "verify.pyz attestation.json --key site=site.pub" in done.stdout


def test_the_one_file_holds_source_that_can_be_read_and_is_the_same_each_time(file: Path) -> None:
    assert verifier_archive() == file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        assert {"__main__.py", "common/errors.py", "common/evidence/verify.py"} <= set(names)
        assert all(name.endswith(".py") for name in names)
        assert b"def main" in archive.read("common/evidence/verify.py")
