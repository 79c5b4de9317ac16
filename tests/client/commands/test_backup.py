"""`fedforget-site backup`, `restore` and `drill`: what is lost, what is kept, and that nobody is used again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.cohort.site import Site
from client.revocations.opening import open_ledger
from client.settings import SiteFolder
from common.learning.records import Subset
from server.settings import ServerFolder


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def stopped(folder: Path) -> int:
    with open_ledger(SiteFolder(folder)) as ledger:
        return len(ledger.stopped())


def revoke(hospital: Path, *patients: str) -> None:
    listed = hospital.parent / "letters.txt"
    listed.write_text("".join(f"{patient}\n" for patient in patients))
    code, _, err = run("revoke", "--patient-file", listed, "--dir", hospital)
    assert code == 0, err


@pytest.fixture
def hospital(enrol: Callable[[Path, str], Path], site_folder: Path) -> Path:
    return enrol(site_folder, "north")


@pytest.fixture
def patients(site_folder: Path) -> list[str]:
    return sorted(Site(site_folder).patients(Subset.TRAIN))


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, str]:
    code, out, _ = run("backup-key", tmp_path / "backup.key", "--json")
    assert code == 0
    return tmp_path / "backup.key", json.loads(out)["recipient"]


def made(hospital: Path, target: Path, recipient: str) -> dict[str, Any]:
    code, out, err = run("backup", target, "--recipient", recipient, "--dir", hospital, "--json")
    assert (code, err) == (0, ""), out
    summary: dict[str, Any] = json.loads(out)
    return summary


def test_a_lost_machine_is_restored_and_a_revocation_after_the_backup_holds_by_the_tombstones(
    hospital: Path, patients: list[str], keys: tuple[Path, str], tmp_path: Path
) -> None:
    run("settings", "set", "tombstones", tmp_path / "other-disk" / "tombstones.log", "--dir", hospital)
    (tmp_path / "other-disk").mkdir()
    revoke(hospital, patients[0])
    made(hospital, tmp_path / "b.age", keys[1])
    revoke(hospital, patients[1])

    shutil.rmtree(hospital)
    code, out, err = run("restore", tmp_path / "b.age", hospital, "--identity", keys[0], "--json")
    report = json.loads(out)
    assert (code, err, [check["ok"] for check in report["checks"]]) == (0, "", [True, True])
    assert stopped(hospital) == 2
    assert any("was still there and is kept" in note for note in report["notes"])
    assert patients[0] not in out


def test_a_lost_disk_of_tombstones_comes_back_from_the_backup(
    hospital: Path, patients: list[str], keys: tuple[Path, str], tmp_path: Path
) -> None:
    other = tmp_path / "other-disk" / "tombstones.log"
    other.parent.mkdir()
    run("settings", "set", "tombstones", other, "--dir", hospital)
    revoke(hospital, *patients[:2])
    made(hospital, tmp_path / "b.age", keys[1])
    shutil.rmtree(hospital)
    other.unlink()
    assert run("restore", tmp_path / "b.age", hospital, "--identity", keys[0])[0] == 0
    assert other.exists()
    assert other.stat().st_mode & 0o077 == 0
    assert stopped(hospital) == 2


def test_a_drill_verifies_the_backup_and_touches_neither_the_live_folder_nor_its_tombstones(
    hospital: Path, patients: list[str], keys: tuple[Path, str], tmp_path: Path
) -> None:
    other = tmp_path / "other-disk" / "tombstones.log"
    other.parent.mkdir()
    run("settings", "set", "tombstones", other, "--dir", hospital)
    revoke(hospital, patients[0])
    made(hospital, tmp_path / "b.age", keys[1])
    revoke(hospital, patients[1])
    before = {path: path.read_bytes() for path in [other, hospital / "site.toml", hospital / "site.db"]}

    code, out, err = run("drill", tmp_path / "b.age", "--identity", keys[0])
    assert (code, err) == (0, ""), out
    assert re.search(r"ok +ledger and tombstones: 1 revocations, the newest of .*; 1 patients are not used", out)
    assert "made 0.0 hours ago" in out
    assert {path: path.read_bytes() for path in before} == before


def test_a_backup_names_no_patient_and_opens_with_its_key_alone(
    hospital: Path, patients: list[str], keys: tuple[Path, str], secret: str, tmp_path: Path
) -> None:
    revoke(hospital, patients[0])
    made(hospital, tmp_path / "b.age", keys[1])
    content = (tmp_path / "b.age").read_bytes()
    assert content.startswith(b"age-encryption.org/v1")
    assert secret.encode() not in content
    assert (tmp_path / "b.age").stat().st_mode & 0o077 == 0
    run("backup-key", tmp_path / "other.key")
    code, _, err = run("drill", tmp_path / "b.age", "--identity", tmp_path / "other.key")
    assert code == 2
    assert "was not encrypted to this key, or is damaged" in err


@pytest.mark.parametrize("spoil", ["cut", "bit", "empty", "other"])
def test_a_damaged_backup_leaves_nothing_behind(
    spoil: str, hospital: Path, keys: tuple[Path, str], tmp_path: Path
) -> None:
    made(hospital, tmp_path / "b.age", keys[1])
    content = bytearray((tmp_path / "b.age").read_bytes())
    if spoil == "cut":
        del content[-5000:]
    elif spoil == "bit":
        content[len(content) // 2] ^= 1
    (tmp_path / "c.age").write_bytes({"empty": b"", "other": b"PK\3\4 something else"}.get(spoil, bytes(content)))
    code, _, err = run("restore", tmp_path / "c.age", tmp_path / "new", "--identity", keys[0])
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "new").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".new")]


def test_nothing_is_overwritten(hospital: Path, keys: tuple[Path, str], tmp_path: Path) -> None:
    made(hospital, tmp_path / "b.age", keys[1])
    code, _, err = run("backup", tmp_path / "b.age", "--recipient", keys[1], "--dir", hospital)
    assert (code, "exists already" in err) == (2, True)
    code, _, err = run("restore", tmp_path / "b.age", hospital, "--identity", keys[0])
    assert (code, "exists already and is not empty" in err) == (2, True)
    assert run("backup-key", keys[0])[0] == 2


def test_a_wrong_public_key_and_a_backup_of_the_coordinator_are_refused(
    hospital: Path, coordinator: ServerFolder, keys: tuple[Path, str], tmp_path: Path
) -> None:
    from server.cli import app as server_app

    code, _, err = run("backup", tmp_path / "x.age", "--recipient", "age1nonsense", "--dir", hospital)
    assert (code, "not a public key" in err, (tmp_path / "x.age").exists()) == (2, True, False)
    result = CliRunner().invoke(
        server_app, ["backup", str(tmp_path / "s.age"), "--recipient", keys[1], "--dir", str(coordinator.root)]
    )
    assert result.exit_code == 0
    code, _, err = run("drill", tmp_path / "s.age", "--identity", keys[0])
    assert (code, "not a backup of a site" in err) == (2, True)
    result = CliRunner().invoke(server_app, ["drill", str(tmp_path / "s.age"), "--identity", str(keys[0]), "--json"])
    assert result.exit_code == 0
    assert {check["name"] for check in json.loads(result.stdout)["checks"]} == {"files", "models", "campaigns", "log"}


def test_an_archive_that_would_write_outside_the_folder_is_refused(keys: tuple[Path, str], tmp_path: Path) -> None:
    import io
    import tarfile

    import pyrage

    for name in ("../outside", "/outside", "a/../../b"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        recipient = pyrage.x25519.Recipient.from_str(keys[1])
        (tmp_path / "evil.age").write_bytes(pyrage.encrypt(buffer.getvalue(), [recipient]))
        code, _, err = run("restore", tmp_path / "evil.age", tmp_path / "new", "--identity", keys[0])
        assert (code, "it holds something that is not a file of a folder" in err) == (2, True)
        (tmp_path / "evil.age").unlink()
    assert not (tmp_path / "outside").exists()
