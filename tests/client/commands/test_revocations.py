"""`fedforget-site revoke` and `revocations` on the ledger: what is recorded, what is shown, who may decide what."""

from __future__ import annotations

import csv
import json
import os
import pty
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.cohort.participation import Participation, record
from client.membership.setup import SiteRequest, create_site
from client.revocations.opening import open_ledger
from client.revocations.revocation import State
from client.revocations.vault import Vault
from client.revocations.workflow.campaign_steps import close, escalate, take_up
from client.settings import SiteFolder
from common.evidence.commitment import check_commitment
from common.files import write_text

SECRET = "MRN-0815-MUELLER"


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    """Six patients in the training set, two in the test set."""
    root = tmp_path / "north"
    create_site(root, SiteRequest("north", "localhost", "0" * 64))
    subsets = {f"{SECRET}-{n}": "train" if n < 6 else "test" for n in range(8)}
    (root / "site.json").write_text(json.dumps({"name": "north", "subsets": subsets}))

    return SiteFolder(root)


def run(site: SiteFolder, *arguments: str, stdin: str = "", code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--dir", str(site.root), "--json"], input=stdin)
    assert SECRET not in result.output
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if not code else " ".join(result.stderr.split())


def revoked(site: SiteFolder, *numbers: int, options: tuple[str, ...] = ()) -> str:
    stdin = "".join(f"{SECRET}-{number}\n" for number in numbers)
    return str(run(site, "revoke", *options, stdin=stdin)["receipt"])


def two_person(site: SiteFolder) -> None:
    text = site.settings_file.read_text()
    write_text(site.settings_file, text.replace("\ngateway", "\ntwo_person_approval = true\ngateway", 1))


def test_everything_that_the_office_says_is_in_the_record_and_the_form_in_the_vault(site: SiteFolder) -> None:
    form = site.root.parent / "form.pdf"
    form.write_bytes(b"%PDF I revoke")
    receipt = revoked(
        site, 0, 7,
        options=(
            "--scope", "images", "--document", str(form), "--received", "2026-03-01", "--requester", "guardian",
            "--identity-check", "passport", "--legal-basis", "HIPAA 164.508", "--policy", "p-2", "--policy", "p-1",
            "--steward", "schmidt",
        ),
    )  # fmt: skip
    with open_ledger(site) as ledger:
        found = ledger.standing(receipt)
    assert [s.state for s in found] == [State.PENDING, State.EVALUATION_ONLY]
    said = {(s.scope, s.requester, s.identity_check, s.legal_basis, s.policies, s.steward) for s in found}
    assert said == {("images", "guardian", "passport", "HIPAA 164.508", ("p-1", "p-2"), "schmidt")}
    assert found[0].received == datetime(2026, 3, 1, tzinfo=UTC)
    kept = Vault(site.vault, os.urandom).opened(receipt)
    assert kept is not None
    assert kept.document == b"%PDF I revoke"
    check_commitment(kept.document, kept.salt, found[0].source.digest)
    assert stat.S_IMODE((site.vault / receipt).stat().st_mode) == 0o600


def test_a_receipt_says_whether_other_hospitals_were_reached(site: SiteFolder) -> None:
    made = run(site, "revoke", stdin=f"{SECRET}-0\n")
    assert (made["patients"], made["revoked_before"], made["other_hospitals"]) == (1, 0, None)
    shown = CliRunner().invoke(app, ["revoke", "--dir", str(site.root)], input=f"{SECRET}-1\n")
    assert "not reached: no linkage is configured" in " ".join(shown.stdout.split())


@pytest.mark.parametrize(
    ("options", "stdin", "says"),
    [
        ((), f"{SECRET}-0\nnobody\n", "1 of 2 patients on the list are not known here; nothing was recorded"),
        (("--received", "2999-01-01"), f"{SECRET}-0", "is in the future"),
        (("--received", "yesterday"), f"{SECRET}-0", "not a date"),
        (("--document", "nowhere.pdf"), f"{SECRET}-0", "cannot read"),
        ((), "", "names no patient"),
    ],
)
def test_what_cannot_be_recorded_leaves_nothing(
    site: SiteFolder, tmp_path: Path, options: tuple[str, ...], stdin: str, says: str
) -> None:
    (tmp_path / "form").write_bytes(b"form")
    if "--document" not in options:
        options = (*options, "--document", str(tmp_path / "form"))
    assert says in run(site, "revoke", *options, stdin=stdin, code=2)
    with open_ledger(site) as ledger:
        assert ledger.standing() == ()
        assert ledger.stopped() == frozenset()

    assert not site.vault.exists() or list(site.vault.iterdir()) == []


def test_unknown_patients_are_recorded_where_that_is_asked_for(site: SiteFolder) -> None:
    receipt = run(site, "revoke", "--also-unknown", stdin="stranger\n")["receipt"]
    assert run(site, "revocations", "show", receipt)["state"] == "excluded-before-training"


def test_the_form_of_patients_who_had_all_revoked_is_not_kept(site: SiteFolder, tmp_path: Path) -> None:
    first = revoked(site, 0)
    (tmp_path / "form").write_bytes(b"form")
    assert revoked(site, 0, options=("--document", str(tmp_path / "form"))) == first
    assert list(site.vault.iterdir()) == []


def test_with_two_people_the_second_must_be_another_and_the_record_says_who(
    site: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at(uid: int, name: str) -> None:
        monkeypatch.setattr("common.platform.login.login", lambda: f"user:{uid}:{name}")

    two_person(site)
    at(1000, "schmidt")
    assert "give the name of the recording person" in run(site, "revoke", "--steward", " ", stdin=f"{SECRET}-0", code=4)
    receipt = revoked(site, 0, options=("--steward", "schmidt"))
    assert run(site, "revocations", "show", receipt)["state"] == "awaiting-approval"
    assert "a second person" in run(site, "revocations", "approve", receipt, "--steward", "Schmidt", code=4)
    said = run(site, "revocations", "approve", receipt, "--steward", "weber", code=4)
    assert "the same operating-system user recorded the revocation, as schmidt" in said
    at(1001, "weber")
    assert run(site, "revocations", "approve", receipt, "--steward", "weber")["state"] == "pending"
    assert "no revocation under this receipt is awaiting" in run(
        site, "revocations", "approve", receipt, "--steward", "weber", code=4
    )
    steps = run(site, "revocations", "show", receipt)["steps"]
    assert [(step["state"], step["by"]) for step in steps] == [
        ("received", "schmidt"),
        ("awaiting-approval", "fedforget"),
        ("pending", "weber"),
    ]


def test_an_answer_is_put_off_with_a_reason_and_within_the_law(site: SiteFolder) -> None:
    receipt = revoked(site, 0)
    now = datetime.now(UTC)
    until, too_far = ((now + timedelta(days=days)).date().isoformat() for days in (60, 120))

    for options, says, code in (
        (("--until", until), "needs a reason", 2),
        (("--until", too_far, "--reason", "no campaign"), "at most two further months", 4),
        (("--until", now.date().isoformat(), "--reason", "no campaign"), "not later", 2),
    ):
        assert says in run(site, "revocations", "extend", receipt, *options, code=code)

    run(site, "revocations", "extend", receipt, "--until", until, "--reason", "no campaign before spring")
    shown = run(site, "revocations", "show", receipt)
    assert shown["due"][:10] == until
    assert 58 <= shown["days_left"] <= 60  # a day is put off to its first moment, and days are rounded


def test_what_is_on_hold_waits_for_the_steward(site: SiteFolder) -> None:
    held = revoked(site, 0)
    refused = revoked(site, 1)
    assert "only with a reason" in run(site, "revocations", "hold", held, code=4)
    for receipt in (held, refused):
        assert run(site, "revocations", "hold", receipt, "--reason", "wrong form")["state"] == "on-hold"
    decided = ("--by", "weber", "--reason", "asked again")
    assert run(site, "steward", "resolve", held, "--revoke", *decided)["states"] == ["pending"]
    assert run(site, "steward", "resolve", refused, "--permit", *decided)["states"] == ["refused"]
    with open_ledger(site) as ledger:
        assert ledger.is_stopped(f"{SECRET}-0")
        assert not ledger.is_stopped(f"{SECRET}-1")


def test_the_list_begins_with_the_most_urgent_and_can_leave_out_what_is_done(site: SiteFolder) -> None:
    done = revoked(site, 7)
    later = revoked(site, 0)
    urgent = revoked(site, 1, options=("--received", (datetime.now(UTC) - timedelta(days=20)).isoformat()))
    assert [row["receipt"] for row in run(site, "revocations", "list")] == [urgent, later, done]
    assert [row["receipt"] for row in run(site, "revocations", "list", "--open")] == [urgent, later]


def test_the_exported_record_has_every_revocation_and_nobodys_name(site: SiteFolder, tmp_path: Path) -> None:
    receipt = revoked(site, 0, 1, options=("--identity-check", '=HYPERLINK("x")'))
    table = tmp_path / "record.csv"
    tree = tmp_path / "record.json"

    for file in (table, tree):
        said = run(site, "revocations", "export", str(file))
        assert (said["receipts"], said["rows"]) == (1, 2)
        assert SECRET not in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    with open_ledger(site) as ledger:
        pseudonyms = [s.pseudonym for s in ledger.standing()]
    assert not any(pseudonym in tree.read_text() for pseudonym in pseudonyms)
    with table.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [(row["receipt"], row["identity_check"]) for row in rows] == [(receipt, '\'=HYPERLINK("x")')] * 2
    assert [len(row["steps"]) for row in json.loads(tree.read_text())] == [2, 2]
    assert "exists already" in run(site, "revocations", "export", str(table), code=2)
    assert "the name must end in" in run(site, "revocations", "export", str(tmp_path / "record.txt"), code=2)


def test_where_the_record_says_nothing_it_says_why(site: SiteFolder, tmp_path: Path) -> None:
    held = revoked(site, 0)
    for number in (1, 2, 3, 7):
        revoked(site, number)
    run(site, "revoke", "--also-unknown", stdin="stranger\n")
    run(site, "revocations", "hold", held, "--reason", "wrong form")
    run(site, "steward", "resolve", held, "--permit", "--by", "weber", "--reason", "asked again")

    with open_ledger(site) as ledger:
        one, two = (ledger.pseudonyms.of(f"{SECRET}-{number}") for number in (1, 2))
        with ledger.writing() as writing:
            take_up(ledger, writing, 4, [one, two])
        record(ledger.engine, [one], Participation(1, "train", "train", "ab" * 32, ledger.clock()))
        close(ledger, [two], State.UNLEARNED, campaign=4, model="cd" * 32)
        escalate(ledger, 4, "inconclusive")

    file = tmp_path / "record.json"
    run(site, "revocations", "export", str(file))
    rows = json.loads(file.read_text())
    assert [(row["state"], row["missing"]["audit"]) for row in rows] == [
        ("refused", "the revocation was refused: no campaign followed"),
        (
            "escalated",
            "the campaign published no version; the coordinator keeps what it measured: "
            "fedforget-server campaign show 4",
        ),
        (
            "unlearned",
            "no attestation of its campaign was signed here so far; the coordinator knows why: "
            "fedforget-server attestation show 4",
        ),
        ("pending", "no campaign has ended for it so far"),
        ("evaluation-only", "the model never learned from the patient: no campaign was needed"),
        ("excluded-before-training", "nobody of this identifier is in the site's data: no campaign was needed"),
    ]
    assert all(row["audit"] is None for row in rows)
    assert [len(row["rounds"]) for row in rows] == [0, 1, 0, 0, 0, 0]
    assert all(row["versions"] == [] for row in rows)
    assert [row["recipients"] for row in rows] == [[], None, [], [], [], []]
    assert "fedforget-server models show" in rows[1]["missing"]["recipients"]
    assert {row["told"]["how"] for row in rows} == {"not-linked"}


def test_identities_come_out_on_a_terminal_or_into_a_private_file_and_nowhere_else(
    site: SiteFolder, tmp_path: Path
) -> None:
    receipt = revoked(site, 0, 3)
    command = [str(Path(sys.executable).with_name("fedforget-site")), "revocations", "patients", receipt]
    command += ["--dir", str(site.root)]
    piped = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (piped.returncode, piped.stdout) == (2, "")
    assert "on a terminal only" in piped.stderr
    subprocess.run([*command, "--to", str(tmp_path / "names")], check=True, timeout=60)
    assert (tmp_path / "names").read_text() == f"{SECRET}-0\n{SECRET}-3\n"
    assert stat.S_IMODE((tmp_path / "names").stat().st_mode) == 0o600
    keyboard, terminal = pty.openpty()
    subprocess.run(command, stdout=terminal, check=True, timeout=60)
    os.close(terminal)
    assert f"{SECRET}-0\r\n{SECRET}-3\r\n".encode() in os.read(keyboard, 10_000)
    os.close(keyboard)


@pytest.mark.parametrize("command", ["show", "approve", "hold", "patients"])
def test_a_receipt_that_is_none_is_said_to_be_none(site: SiteFolder, command: str) -> None:
    result = CliRunner().invoke(app, ["revocations", command, "0" * 16, "--dir", str(site.root)])
    assert result.exit_code == 2
    assert "no such receipt" in result.stderr
