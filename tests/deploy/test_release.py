"""A release is signed by deploy/release/build and checked by the stand-alone verifier."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from common.errors import EvidenceError
from common.evidence.keys import SigningKey
from common.evidence.release import RELEASE_FILE, ReleaseFile, sign_release
from common.evidence.verify import main

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "deploy" / "release" / "build"
COMMIT = "a" * 40
BUILT = "2026-03-01T12:00:00Z"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A signed folder, and the public key beside it."""
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "fedforget.whl").write_bytes(b"wheel")
    (folder / "sbom.cdx.json").write_bytes(b"{}")
    key = SigningKey.generate()
    (tmp_path / "release.pub").write_bytes(key.public.pem)
    (folder / RELEASE_FILE).write_bytes(sign_release(folder, "1.2.3", COMMIT, BUILT, key))

    return folder


def check(folder: Path, *more: str) -> int:
    return main(["--release", str(folder), "--key", f"release={folder.parent / 'release.pub'}", *more])


def test_a_whole_release_holds(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(release) == 0
    assert "FedForget 1.2.3" in capsys.readouterr().out
    assert check(release, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert [file["name"] for file in said["files"]] == ["fedforget.whl", "sbom.cdx.json"]


def test_nothing_else_holds(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = release / "fedforget.whl"
    wheel.write_bytes(b"another")
    assert check(release) == 6
    assert "changed since it was signed: fedforget.whl" in capsys.readouterr().err
    wheel.unlink()
    assert check(release) == 6
    wheel.write_bytes(b"wheel")
    (release / "more.whl").write_bytes(b"")
    assert check(release) == 6
    (release / "more.whl").unlink()
    (release / "link").symlink_to(wheel)
    assert check(release) == 6
    (release / "link").unlink()
    assert check(release) == 0

    (release.parent / "release.pub").write_bytes(SigningKey.generate().public.pem)
    assert check(release) == 6
    (release / RELEASE_FILE).unlink()
    assert check(release) == 2


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\n"])
def test_a_name_that_is_a_path_is_refused(name: str) -> None:
    with pytest.raises(EvidenceError, match="name of a file"):
        ReleaseFile(name, "0" * 64)


def test_the_workflow_calls_the_script_and_the_verifier_as_documented() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    steps = "\n".join(step.get("run", "") for step in jobs["publish"]["steps"])
    assert jobs["publish"]["needs"] == "test"
    assert "deploy/release/build release --key" in steps
    assert "python release/verify.pyz --release release --key release=deploy/release/release.pub" in steps
    assert "bash .ci/run" in jobs["test"]["steps"][-1]["run"]


def test_a_key_is_created_encrypted(tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text("a good one\n")
    command: list[str | Path] = [
        sys.executable,
        BUILD,
        "--new-key",
        tmp_path / "release.pem",
        "--passphrase-file",
        tmp_path / "passphrase",
    ]
    subprocess.run(command, check=True, capture_output=True)
    key = SigningKey.from_pem((tmp_path / "release.pem").read_bytes(), b"a good one")
    assert (tmp_path / "release.pub").read_bytes() == key.public.pem
    assert (tmp_path / "release.pem").stat().st_mode & 0o77 == 0


@pytest.mark.slow
def test_the_script_builds_what_the_verifier_of_the_release_accepts(tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text("a good one")
    options = ["--passphrase-file", str(tmp_path / "passphrase")]
    build = [sys.executable, str(BUILD)]
    key = str(tmp_path / "release.pem")
    subprocess.run([*build, "--new-key", key, *options], check=True)
    folder = tmp_path / "release"
    subprocess.run([*build, str(folder), "--key", key, *options], check=True)
    names = {path.suffix for path in folder.iterdir()}
    assert names == {".whl", ".gz", ".pyz", ".json"}
    verifier = [sys.executable, "-I", str(folder / "verify.pyz"), "--release", str(folder)]
    subprocess.run([*verifier, "--key", f"release={tmp_path / 'release.pub'}"], check=True)
