"""From a signed list that a spreadsheet has changed to the batches that are trained on, and to the answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.cohort.site import Site
from client.cohort.site_files import SITE_FILE
from client.database import migrate, opened
from client.intake.inbox import Inbox
from client.revocations.opening import open_ledger
from client.settings import SiteFolder
from common.evidence.keys import SigningKey
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Subset

KEY = SigningKey.generate()
CASES = Path(__file__).parents[1] / "common" / "learning" / "data" / "cases" / "01-opt-out-list-ids-changed-by-excel"


@pytest.fixture
def folder(site_folder: Path, secret: str) -> Path:
    """A site whose patients are `000000` to `000013`, the first six of them in training."""
    file = site_folder / SITE_FILE
    text = file.read_text(encoding="utf-8")
    for number in range(14):
        text = text.replace(f'"{secret}-{number}"', f'"{number:06}"')
    file.write_text(text, encoding="utf-8")
    with opened(site_folder / "site.db") as engine:
        migrate(engine)
    (site_folder / "inbox").mkdir()

    return site_folder


def taken(folder: Path, name: str, content: bytes) -> dict[str, object]:
    """The receipt of a signed list that the inbox took."""
    (folder / "inbox" / name).write_bytes(content)
    (folder / "inbox" / f"{name}.sig").write_bytes(KEY.sign(content))
    with open_ledger(SiteFolder(folder)) as ledger:
        assert Inbox(ledger, folder / "inbox", (KEY.public,)).look(datetime.now(UTC) + timedelta(seconds=1)) == 1
    (receipt,) = (folder / "inbox").glob(f"*/{name}.receipt.json")

    return {"room": receipt.parent.name, **json.loads(receipt.read_text())}


def trained_on(site: Site) -> set[str]:
    return set(site.patients(Subset.TRAIN))


def test_the_list_of_the_case_stops_the_look_alikes_until_a_person_answers(folder: Path, card: ModelCard) -> None:
    site = Site(folder)
    everybody = {f"{number:06}" for number in range(6)}
    assert trained_on(site) == everybody
    receipt = taken(folder, "list.csv", (CASES / "list.csv").read_bytes())
    assert (receipt["room"], receipt["known"], receipt["unknown"], receipt["doubtful"]) == ("doubtful", 0, 0, 2)
    assert trained_on(site) == everybody - {"000003", "000004"}
    rows = command(folder, "revocations", "doubtful")
    assert len(rows) == 2
    with open_ledger(SiteFolder(folder)) as ledger:
        names = ledger.identifiers()
        pseudonym = {standing.number: standing.pseudonym for standing in ledger.standing()}

    for row in rows:
        meant = ("--is", str(row["candidate"])) if names[pseudonym[row["candidate"]]] == "000003" else ("--stranger",)
        command(folder, "revocations", "doubtful", row["doubt"], *meant, "--reason", "asked the office")

    assert trained_on(site) == everybody - {"000003"}
    assert command(folder, "revocations", "doubtful") == []
    (listed,) = (row for row in command(folder, "revocations", "list") if row["receipt"] == receipt["receipt"])
    assert (listed["kind"], listed["doubtful"]) == ("opt-out", 0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b'patient_id\r\n="000003"\r\n'),
        ("a.csv", b"Patienten-ID;Grund\r\n'000003;x\r\n"),
        ("a.txt", b'"000003"\n'),
        ("a.txt", "\ufeff000003\u00a0\r\n".encode()),
        ("a.csv", "sep=;\r\nPatientID;x\r\n000003;\u00fc\r\n".encode("utf-16")),
        ("a.json", b'{"patients": ["000003\\u200b"]}'),
    ],
)
def test_marks_of_a_format_make_no_doubt(folder: Path, name: str, content: bytes) -> None:
    receipt = taken(folder, name, content)
    assert (receipt["room"], receipt["known"], receipt["doubtful"], receipt["note"]) == ("done", 1, 0, "")
    assert "000003" not in trained_on(Site(folder))


def command(folder: Path, *arguments: str) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--dir", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found
