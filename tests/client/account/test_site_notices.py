"""What leaves a hospital by its notices: counts and receipts of what needs somebody, and nobody's identifier."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from notice_servers import PASSWORD, Servers, notice_servers, settings_of
from typer.testing import CliRunner

from client.account.notices import site_notice
from client.cli import app
from client.membership.setup import SiteRequest, create_site
from client.revocations.opening import open_ledger
from client.revocations.revocation import Request, Source
from client.revocations.workflow.campaign_steps import escalate, take_up
from client.revocations.workflow.decisions import hold
from client.runtime.doctor import examine
from client.runtime.notices import open_notices
from client.runtime.up import children
from client.settings import SiteFolder
from common.platform.actor import Actor
from common.platform.notices.notice import Notice

NOW = datetime.now(UTC)
PATIENTS = {f"MRN-4711{n}": "train" for n in range(8)}
LOOK_ALIKE = "mrn 47116"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with notice_servers(tmp_path) as made:
        yield made


@pytest.fixture
def folder(servers: Servers, tmp_path: Path) -> SiteFolder:
    """A hospital where one answer is overdue, one due soon, one far off, one to approve, one doubtful, one failed."""
    root = tmp_path / "north"
    create_site(root, SiteRequest("north", "localhost", "0" * 64))
    (root / "site.json").write_text(json.dumps({"name": "north", "subsets": PATIENTS}))
    settings = settings_of(servers, root).replace("[notify]\n", '[notify]\nat = "00:00"\n')
    with (root / "site.toml").open("a") as file:
        file.write(settings)

    with open_ledger(SiteFolder(root)) as ledger:

        def record(receipt: str, patient: str, days_ago: float, **more: object) -> None:
            request = Request(Source("cli", receipt), receipt, NOW - timedelta(days=days_ago), **more)  # type: ignore[arg-type]  # a test's own changes
            ledger.record(request, [patient], also_unknown=True)

        record("late", "MRN-47110", 40)
        record("soon", "MRN-47111", 28.5)
        record("far", "MRN-47112", 2)
        record("failed", "MRN-47114", 3)
        with ledger.writing() as writing:
            take_up(ledger, writing, 1, [ledger.pseudonyms.of("MRN-47114")])
        escalate(ledger, 1, "rejected")
        record("held", "MRN-47115", 1)
        hold(ledger, "held", Actor("lee", "user:1:lee"), "the letter is being checked")
        record("doubt", LOOK_ALIKE, 1)
        ledger.two_person = True
        record("approve", "MRN-47113", 4, steward="lee", identity="user:1:lee")

    return SiteFolder(root)


def counts(notice: Notice) -> dict[str, tuple[str, ...]]:
    return {line.text: line.items for line in notice.lines if line.count}


def test_the_digest_counts_what_needs_somebody_and_the_escalation_what_is_nearly_due(folder: SiteFolder) -> None:
    with open_ledger(folder) as ledger:
        settings = folder.settings()
        digest = site_notice(ledger, settings, "digest", NOW)
        escalation = site_notice(ledger, settings, "escalation", NOW)
    assert counts(digest) == {
        "Overdue answers": ("late",),
        "Answers due within %(days)s days": ("soon",),
        "To be approved by a second person": ("approve",),
        "Doubtful: somebody must say who is meant": ("doubt",),
        "A campaign has failed and will be tried again": ("failed",),
        "On hold": ("held",),
    }
    assert counts(escalation) == {"Overdue answers": ("late",), "Answers due within %(days)s days": ("soon",)}
    assert digest.due is not None
    assert digest.due < NOW


def test_nothing_that_is_sent_names_a_patient(servers: Servers, folder: SiteFolder) -> None:
    with open_notices(folder.root) as notifier, open_ledger(folder) as ledger:
        assert {one.outcome for one in notifier.send_now(NOW)} == {"sent"}
        notifier.test(NOW)
        pseudonyms = {ledger.pseudonyms.of(patient) for patient in PATIENTS}

    sent = servers.everything()
    assert sent.count(b"late") >= 6
    names = {LOOK_ALIKE, *PATIENTS}
    unlike = {name.lower().replace("-", "").replace(" ", "") for name in names}
    folded = sent.lower().replace(b"-", b"").replace(b" ", b"").replace(b"=\r\n", b"").replace(b"=\n", b"")
    for name in names | pseudonyms | unlike | {"4711"}:
        assert name.encode() not in sent
        assert name.lower().encode() not in folded


def test_a_receipt_that_is_an_identifier_is_counted_and_not_shown(servers: Servers, folder: SiteFolder) -> None:
    with open_ledger(folder) as ledger:
        ledger.record(Request(Source("cli", "x"), "MRN-47117", NOW - timedelta(days=50)), ["MRN-47117"])
    with open_notices(folder.root) as notifier:
        digest = notifier.preview(NOW)["digest"].text
    assert "Overdue answers: 2\n  late\n  and 1 more\n" in digest


def test_the_process_that_up_starts_sends_and_ends_when_it_is_told(servers: Servers, folder: SiteFolder) -> None:
    child = next(one for one in children(folder, folder.settings()) if one.name == "notices")
    running = subprocess.Popen(child.argv, env=dict(child.env or {}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert servers.has_mail.wait(60)
    finally:
        running.send_signal(signal.SIGTERM)
        said, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert b"was sent by mail" in said
    assert PASSWORD.encode() not in said
    assert b"hook-secret" not in said


def test_the_commands_print_try_and_send_and_the_doctor_says_what_became_of_it(
    servers: Servers, folder: SiteFolder
) -> None:
    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["notify", *words, "--dir", str(folder.root)])
        return result.exit_code, result.output

    code, text = run("send", "--dry-run")
    assert code == 0
    assert "Overdue answers: 1" in text
    assert servers.everything() == b""
    assert run("test")[0] == 0
    assert len(servers.mails) == 2
    servers.status = 500
    code, text = run("send")
    assert code == 5
    assert "digest by teams: failed: teams refuses (500)" in text
    assert "digest by mail: sent" in text
    found = {check.name: check for check in examine(folder, NOW) if check.name.startswith("notices")}
    assert found["notices: digest by mail"].result == "ok"
    assert found["notices: digest by teams"].result == "warn"
    servers.status = 200
    code, text = run("send")
    assert code == 0
    assert "mail" not in text
    assert "nothing to send" in run("send")[1]


def test_a_site_without_notices_starts_no_process(folder: SiteFolder) -> None:
    text = (
        folder.settings_file.read_text()
        .replace("[notify]\nat", "[notify]\n#")
        .replace("enabled = true\nca", "enabled = false\nca")
    )
    folder.settings_file.write_text(text)
    assert "notices" not in {child.name for child in children(folder, folder.settings())}
