"""The coordinator's doctor, at folders in which one thing is wrong."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from common.installation import own_version
from common.platform.checks import Check
from common.platform.keys.certificates import certificate_pem, issue_server, load_certificate
from common.platform.keys.private_keys import load_ec_key, read_passphrase
from common.platform.processes.up_lock import only_one
from common.platform.sql import open_database, transaction
from server.cli import app
from server.database import CampaignRow, EventRow, PhaseRow, SiteRow
from server.membership.setup import create_server
from server.runtime.doctor import examine
from server.settings import ServerFolder

NOW = datetime.now(UTC)


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@pytest.fixture
def folder(tmp_path: Path) -> ServerFolder:
    create_server(tmp_path / "federation", ["localhost"], NOW, ["no", "yes"])
    folder = ServerFolder(tmp_path / "federation")
    gateway, coordination, superlink, monitor = free_ports(4)
    text = re.sub(
        r"^gateway = \d+\ncoordination = \d+$",
        f"gateway = {gateway}\ncoordination = {coordination}\nsuperlink = {superlink}\nmonitor = {monitor}",
        folder.settings_file.read_text(),
        flags=re.MULTILINE,
    )
    folder.settings_file.write_text(text)

    return folder


def failures(folder: ServerFolder, now: datetime = NOW) -> dict[str, Check]:
    return {check.name: check for check in examine(folder, now) if check.result == "fail"}


def site(folder: ServerFolder, name: str, **fields: object) -> None:
    engine = open_database(folder.database_url(folder.settings()))
    with transaction(engine) as session:
        values = {"state": "active", "node_key": "", "signing_key": "", "certificate": "", "enrolled": NOW} | fields
        session.add(SiteRow(name=name, **values))

    engine.dispose()


def test_a_new_folder_has_no_failure(folder: ServerFolder) -> None:
    assert failures(folder) == {}


def test_a_secret_that_others_can_read_or_that_is_missing_is_a_row_with_its_remedy(folder: ServerFolder) -> None:
    folder.superexec_secret.chmod(0o644)
    (check,) = failures(folder).values()
    assert check == Check(
        "secret secrets/superexec", "fail", "others can read this key", f"chmod 600 {folder.superexec_secret}"
    )
    folder.superexec_secret.unlink()
    assert set(failures(folder)) == {"secret secrets/superexec"}


def test_a_passphrase_that_does_not_open_the_signing_key_fails(folder: ServerFolder) -> None:
    folder.passphrase.write_text("another")
    assert set(failures(folder)) == {"signing key"}


def test_a_host_that_the_certificate_does_not_name_fails(folder: ServerFolder) -> None:
    text = folder.settings_file.read_text()
    folder.settings_file.write_text(text.replace('"localhost"', '"localhost", "192.0.2.7"'))
    found = failures(folder)
    assert set(found) == {"certificate names"}
    assert found["certificate names"].detail == "192.0.2.7 not in the certificate"


def test_an_expired_certificate_fails_and_one_that_soon_expires_warns(folder: ServerFolder) -> None:
    late = NOW + timedelta(days=826)
    assert set(failures(folder, late)) == {"certificate", "certificate chain"}
    soon = {check.name: check.result for check in examine(folder, NOW + timedelta(days=800))}
    assert soon["certificate"] == "warn"


def test_a_certificate_of_another_authority_fails(folder: ServerFolder, tmp_path: Path) -> None:
    create_server(tmp_path / "other", ["localhost"], NOW, ["no", "yes"])
    folder.certificate.write_bytes(ServerFolder(tmp_path / "other").certificate.read_bytes())
    assert set(failures(folder)) == {"certificate chain"}


def test_a_doctor_reads_while_others_write(folder: ServerFolder) -> None:
    engine = open_database(folder.database_url(folder.settings()))
    with transaction(engine) as session:
        session.add(EventRow(kind="note", detail="not yet committed", at=NOW))
        session.flush()
        began = time.monotonic()
        assert not failures(folder)
        assert time.monotonic() - began < 10
    engine.dispose()


def test_a_port_that_another_program_holds_fails(folder: ServerFolder) -> None:
    with socket.create_server(("127.0.0.1", folder.settings().ports.superlink)):
        (check,) = failures(folder).values()
    assert check.name.endswith("(superlink)")
    assert check.detail == "another process listens here"


def test_a_gateway_of_another_program_is_missed_when_it_is_not_there(folder: ServerFolder) -> None:
    text = folder.settings_file.read_text().replace("[ports]\n", "[ports]\nown_gateway = false\n")
    folder.settings_file.write_text(text)
    (check,) = failures(folder).values()
    assert check.detail == "own_gateway = false, and nothing listens here"
    with socket.create_server(("127.0.0.1", folder.settings().ports.gateway)):
        assert not failures(folder)


@pytest.mark.parametrize(
    ("content", "detail"), [(b"", "schema empty"), (b"no database" * 100, "the database is damaged")]
)
def test_a_database_without_schema_or_damaged_fails(folder: ServerFolder, content: bytes, detail: str) -> None:
    for path in folder.root.glob("server.db*"):
        path.unlink()
    (folder.root / "server.db").write_bytes(content)
    found = failures(folder)
    assert set(found) == {"database"}
    assert found["database"].detail.startswith(detail)


def test_settings_that_are_wrong_are_the_last_row(folder: ServerFolder) -> None:
    folder.settings_file.write_text("hosts = [")
    assert [check.name for check in examine(folder, NOW)] == ["folder", "server.toml"]
    assert set(failures(folder)) == {"server.toml"}


def test_sites_that_are_silent_suspended_or_of_another_version_are_seen(folder: ServerFolder) -> None:
    from common.installation import own_version

    site(folder, "east", seen=NOW, version=own_version())
    site(folder, "far", seen=NOW - timedelta(minutes=11), version=own_version())
    site(folder, "gone", state="revoked")
    site(folder, "new")
    site(folder, "old", seen=NOW, version="999.0.0")
    site(folder, "poor", seen=NOW, state="suspended", version=own_version())
    found = {check.name: check.result for check in examine(folder, NOW) if check.name.startswith("site ")}
    assert found == {
        "site east": "ok",
        "site far": "warn",
        "site new": "warn",
        "site old": "fail",
        "site poor": "warn",
    }


def test_it_says_that_no_up_runs_here_and_what_to_type(folder: ServerFolder) -> None:
    (row,) = [check for check in examine(folder, NOW) if check.name == "up"]
    assert (row.result, row.detail.partition(":")[0]) == ("warn", "does not run here")
    assert row.remedy == f"start it: fedforget-server up --dir {folder.root}"


def test_a_coordinator_that_runs_and_does_nothing_fails(folder: ServerFolder) -> None:
    def tick() -> tuple[str, str]:
        (row,) = [check for check in examine(folder, NOW) if check.name == folder.tick.name]
        return row.result, row.detail

    with only_one(folder.root):
        assert tick() == ("fail", "never")
        folder.tick.touch()
        assert tick()[0] == "ok"
        old = time.time() - 600
        os.utime(folder.tick.path, (old, old))
        result, detail = tick()

    assert result == "fail"
    assert re.fullmatch(r"60\d s ago, 60 s are allowed", detail)


def test_the_command_ends_with_1_when_a_check_fails_and_prints_json(folder: ServerFolder) -> None:
    run = CliRunner().invoke(app, ["doctor", "--dir", str(folder.root), "--json"])
    assert run.exit_code == 0
    assert {"name": "secrets", "result": "ok", "detail": "5, all private", "remedy": ""} in json.loads(run.stdout)
    folder.key.chmod(0o644)
    run = CliRunner().invoke(app, ["doctor", "--dir", str(folder.root)])
    assert run.exit_code == 1
    assert "secret" in run.stdout
    assert "chmod" in run.stdout


def test_a_certificate_for_another_key_fails(folder: ServerFolder) -> None:
    ca = load_certificate(folder.ca_certificate)
    ca_key = load_ec_key(folder.ca_key, read_passphrase(folder.passphrase))
    another = ec.generate_private_key(ec.SECP256R1()).public_key()
    folder.certificate.write_bytes(certificate_pem(issue_server(ca, ca_key, another, ["localhost"], NOW)))
    assert set(failures(folder)) == {"certificate chain"}


def test_a_hospital_that_vetoes_or_sends_bad_replies_again_and_again_is_named(folder: ServerFolder) -> None:
    site(folder, "north", state="active", node=1, seen=NOW, version=own_version())
    engine = open_database(folder.database_url(folder.settings()))

    with transaction(engine) as session:
        plain = {"kind": "unlearning", "state": "rejected", "created": NOW, "changed": NOW, "settings": {}}
        session.add_all([CampaignRow(number=number, **plain) for number in (1, 2)])
        session.flush()
        for number in (1, 2):
            body = {"outcome": "accepted", "reasons": [], "vetoes": ["north: test AUC fell", "north: another class"]}
            session.add(PhaseRow(campaign=number, step="verdict", finished=NOW, body=body))

        session.add(EventRow(at=NOW, site="north", kind="quarantined", detail="evaluate: NaN"))
        session.add(EventRow(at=NOW - timedelta(days=100), site="north", kind="quarantined", detail="evaluate: NaN"))

    engine.dispose()
    found = {check.name: check for check in examine(folder, NOW)}
    assert found["conduct of north"].result == "warn"
    assert found["conduct of north"].detail == "2 candidates that it alone vetoed in 90 days"
