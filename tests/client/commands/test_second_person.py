"""On a shared account a steward's key approves, and the record has the signature; what a narrow terminal shows."""

from __future__ import annotations

import json
import sqlite3
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from client.cli import app
from client.cohort.participation import Participation, record
from client.cohort.site_consent import SiteConsent
from client.evidence.event_log import SiteLog
from client.membership.setup import SiteRequest, create_site
from client.revocations.opening import open_ledger
from client.runtime.doctor import _log_there
from client.settings import SiteFolder
from common.files import write_text

SECRET = "correct horse\n"


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    root = tmp_path / "north"
    create_site(root, SiteRequest("north", "localhost", "0" * 64))
    subsets = {f"p-{n}": "train" for n in range(4)}
    (root / "site.json").write_text(json.dumps({"name": "north", "subsets": subsets}))

    return SiteFolder(root)


def run(site: SiteFolder, *arguments: str, stdin: str = "", code: int = 0, as_json: bool = True) -> Any:
    more = ["--json"] if as_json else []
    result = CliRunner().invoke(app, [*arguments, "--dir", str(site.root), *more], input=stdin, env={"COLUMNS": "80"})
    assert result.exit_code == code, result.output

    return (
        json.loads(result.stdout)
        if as_json and not code
        else " ".join(result.output.split())
        if code
        else result.output
    )


def test_a_shared_account_approves_by_key_alone_and_the_signature_is_on_record(
    site: SiteFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("common.platform.login.login", lambda: "shared:0:root")
    passphrase = tmp_path / "passphrase"
    passphrase.write_text(SECRET)
    passphrase.chmod(0o600)
    by_key = ("--key", str(site.root / "steward" / "steward.pem"), "--passphrase-file", str(passphrase))
    setting = run(site, "steward", "init", "--passphrase-file", str(passphrase))["setting"]
    text = site.settings_file.read_text()
    write_text(site.settings_file, text.replace("\ngateway", f"\ntwo_person_approval = true\n{setting}\ngateway", 1))
    receipt = run(site, "revoke", "--steward", "lee", stdin="p-0\np-1\np-2\np-3\n")["receipt"]
    said = run(site, "revocations", "approve", receipt, "--steward", "weber", code=4)
    assert "nobody can tell who that is" in said
    assert "the one who recorded" in run(site, "revocations", "approve", receipt, "--steward", "lee", *by_key, code=4)
    assert run(site, "revocations", "approve", receipt, "--steward", "weber", *by_key)["state"] == "pending"
    steps = run(site, "revocations", "show", receipt)["steps"]
    assert [(step["state"], step["patients"]) for step in steps] == [
        ("received", 4),
        ("awaiting-approval", 4),
        ("pending", 4),
    ]
    assert steps[-1]["signed"] == "signature holds"
    assert "shared account root (0), key " in steps[-1]["identity"]
    shown = run(site, "revocations", "list", as_json=False)
    assert any(receipt in line for line in shown.splitlines())
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_a_readmission_by_command_keeps_its_form_and_says_who_stays_out(site: SiteFolder, tmp_path: Path) -> None:
    receipt = run(site, "revoke", "--kind", "opt-out", stdin="p-0\np-1\n")["receipt"]
    run(site, "revoke", stdin="p-1\n")
    form = tmp_path / "form.pdf"
    form.write_bytes(b"signed")
    given = ("revocations", "readmit", receipt, "--reason", "taken back")
    assert "empty" in run(site, *given, "--document", "/dev/null", code=2)
    said = run(site, *given, "--document", str(form), "--everybody")
    assert (said["patients"], said["still_stopped"]) == (2, 1)
    assert (site.vault / said["form"]).read_bytes().endswith(b"signed")
    run(site, *given, "--document", str(form), "--everybody", code=4)
    assert len([*site.vault.iterdir()]) == 1


def test_of_a_list_only_those_are_readmitted_who_are_asked_for(site: SiteFolder, tmp_path: Path) -> None:
    receipt = run(site, "revoke", "--kind", "opt-out", stdin="p-0\np-1\np-2\n")["receipt"]
    one = tmp_path / "one.txt"
    one.write_text("p-1\n")
    other = tmp_path / "other.txt"
    other.write_text("p-1\np-3\n")
    (tmp_path / "form").write_bytes(b"signed")
    given = ("revocations", "readmit", receipt, "--reason", "taken back", "--document", str(tmp_path / "form"))
    said = run(site, *given, code=2)
    assert "the receipt stands for 3 patients" in said
    assert "--patient-file" in said
    assert "1 of 2 patients have no revocation" in run(site, *given, "--patient-file", str(other), code=2)
    assert "contradict" in run(site, *given, "--patient-file", str(one), "--everybody", code=2)
    assert run(site, *given, "--patient-file", str(one))["patients"] == 1
    with open_ledger(site) as ledger:
        assert [ledger.is_stopped(f"p-{n}") for n in range(3)] == [True, False, True]
    run(site, *given, code=2)
    assert run(site, *given, "--everybody")["patients"] == 2
    assert len([*site.vault.iterdir()]) == 2


def test_nothing_waits_is_said_in_words(site: SiteFolder) -> None:
    assert run(site, "revocations", "list", as_json=False) == "no revocations\n"


def test_a_database_of_a_newer_release_is_called_that(site: SiteFolder) -> None:
    run(site, "revocations", "list")
    with sqlite3.connect(site.database) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    said = run(site, "revocations", "list", code=2)
    assert "written by a newer FedForget: schema 9999" in said
    assert "install the version that wrote it" in said
    assert "Traceback" not in said


def test_who_is_readmitted_while_a_campaign_runs_waits_for_the_next_one(site: SiteFolder, tmp_path: Path) -> None:
    receipt = run(site, "revoke", "--kind", "opt-out", stdin="p-0\n")["receipt"]
    (tmp_path / "form").write_bytes(b"signed")
    with open_ledger(site) as ledger:
        record(ledger.engine, {"x"}, Participation(7, "train:0", "train", "ab", datetime.now(UTC)))
    reason = ("--reason", "taken back", "--document", str(tmp_path / "form"))
    run(site, "revocations", "readmit", receipt, *reason)
    consent = SiteConsent(site, ["p-0", "p-1"])
    assert consent.stopped() == frozenset()
    assert consent.readmitted_during(7) == {"p-0"}
    assert consent.readmitted_during(8) == consent.readmitted_during(0) == frozenset()


def test_the_doctor_says_that_the_coordinator_refuses_the_log(
    site: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(grpc.RpcError, grpc.Call):  # type: ignore[misc]  # as grpc raises it
        """As it comes from a call."""

        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.FAILED_PRECONDITION

        def details(self) -> str:
            return "the log was cut short: 3 leaves, 5 were co-signed"

    def refuse(*_: object) -> None:
        raise Refused

    monkeypatch.setattr("client.runtime.doctor.connect", lambda _: nullcontext())
    monkeypatch.setattr("client.runtime.doctor.exchange_checkpoints", refuse)
    with open_ledger(site) as ledger:
        (row,) = _log_there(SiteLog(site, ledger.engine, lambda: datetime.now(UTC)))
    assert (row.name, row.result) == ("log at the coordinator", "fail")
    assert "cut short" in row.detail
    assert "fedforget-site log restart" in row.remedy
