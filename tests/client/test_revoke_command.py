"""`fedforget-site revoke` as processes: what it prints, what it never prints, and many of them at once."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.cohort.site import Site
from client.revocations.opening import open_ledger
from client.revocations.revocation import State, Waiting
from client.revocations.tombstones.overview import read_revocations
from client.settings import SiteFolder
from common.errors import CohortError
from common.learning.records import Subset

MAIN = "from client.cli import app; app()"


def waiting(folder: Path) -> Waiting:
    with open_ledger(SiteFolder(folder)) as ledger:
        return ledger.waiting()


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def run(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate(stdin, timeout=60)
    return process.returncode, out, err


@pytest.fixture
def patients(site_folder: Path) -> list[str]:
    return sorted(Site(site_folder).patients(Subset.TRAIN))


def test_a_receipt_has_a_number_dates_and_no_identity(site_folder: Path, patients: list[str], secret: str) -> None:
    listed = site_folder / "list.csv"
    listed.write_text("patient_id,name\n" + "".join(f"{p},x\n" for p in patients[:2]), encoding="utf-8")
    code, out, err = run("revoke", "--patient-file", listed, "--received", "2026-03-01", "--dir", site_folder, "--json")
    assert (code, err) == (0, "")
    receipt = json.loads(out)
    assert (receipt["patients"], receipt["revoked_before"]) == (2, 0)
    assert datetime.fromisoformat(receipt["received"]) == datetime(2026, 3, 1, tzinfo=UTC)
    assert datetime.fromisoformat(receipt["due"]) == datetime(2026, 4, 1, tzinfo=UTC)
    assert secret not in out
    assert waiting(site_folder) == (2, datetime(2026, 4, 1, tzinfo=UTC))

    code, out, _ = run("revocations", "show", receipt["receipt"], "--dir", site_folder, "--json")
    shown = json.loads(out)
    assert (code, shown["patients"], shown["states"], secret in out) == (0, 2, {"pending": 2}, False)
    left = datetime(2026, 4, 1, tzinfo=UTC) - datetime.now(UTC)
    assert shown["days_left"] == pytest.approx(left / timedelta(days=1), abs=0.2)


def test_ids_come_from_standard_input_and_a_second_time_changes_no_date(site_folder: Path, patients: list[str]) -> None:
    assert run("revoke", "--received", "2026-03-01", "--dir", site_folder, stdin=patients[0])[0] == 0
    code, out, _ = run("revoke", "--dir", site_folder, "--json", stdin="\n".join(patients[:2]))
    assert (code, json.loads(out)["patients"], json.loads(out)["revoked_before"]) == (0, 2, 1)
    assert waiting(site_folder) == (2, datetime(2026, 4, 1, tzinfo=UTC))
    code, out, _ = run("revocations", "list", "--dir", site_folder, "--json")
    assert [row["patients"] for row in json.loads(out)] == [1, 1]


@pytest.mark.parametrize(
    ("more", "stdin", "message"),
    [
        ((), "{first}\nnobody-1\nnobody-2", "2 of 3 patients on the list are not known here; nothing was recorded"),
        ((), "", "names no patient"),
        (("--received", "2999-01-01"), "{first}", "is in the future"),
        (("--received", "yesterday"), "{first}", "not a date"),
        (("--scope", "text"), "{first}", "Invalid value"),
    ],
)
def test_what_cannot_be_recorded_records_nothing_and_ends_with_2(
    site_folder: Path, patients: list[str], secret: str, more: tuple[str, ...], stdin: str, message: str
) -> None:
    code, out, err = run("revoke", *more, "--dir", site_folder, stdin=stdin.format(first=patients[0]))
    assert code == 2
    assert message in " ".join((out + err).split())
    assert secret not in out + err
    assert "nobody-1" not in out + err
    assert read_revocations(site_folder).patients == {}
    assert not SiteFolder(site_folder).tombstones.exists()


def test_on_a_terminal_ids_are_asked_for_and_not_shown(site_folder: Path, patients: list[str], secret: str) -> None:
    keyboard, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "revoke", "--dir", str(site_folder)],
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    screen = b""

    for prompts, typed in ((1, patients[0]), (2, patients[1]), (3, "")):
        # What is typed before the prompt is thrown away.
        while screen.count(b"not shown") < prompts:
            screen += os.read(keyboard, 1000)
        os.write(keyboard, typed.encode() + b"\n")

    with contextlib.suppress(OSError):  # the other end closes
        while more := os.read(keyboard, 1000):
            screen += more

    os.close(keyboard)
    assert process.wait(timeout=60) == 0
    assert b"receipt" in screen
    assert secret.encode() not in screen
    assert read_revocations(site_folder).pending == set(patients[:2])


def test_processes_that_revoke_at_once_lose_nothing(site_folder: Path, patients: list[str]) -> None:
    processes = [start("revoke", "--dir", site_folder, "--json") for _ in patients]
    # All of them have imported what they need and wait for their input; then all get it.
    outputs = []
    for process, patient in zip(processes, patients, strict=True):
        assert process.stdin is not None
        process.stdin.write(patient)

    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        outputs.append(json.loads(out))

    found = read_revocations(site_folder)
    assert found.pending == frozenset(patients)
    assert {entry.receipt for entry in found.patients.values()} == {o["receipt"] for o in outputs}
    assert len({o["receipt"] for o in outputs}) == len(patients)


def test_a_process_that_runs_sees_a_revocation_by_another(site_folder: Path, patients: list[str]) -> None:
    site = Site(site_folder)
    assert site.stopped == frozenset()
    for count in (1, 2):
        run("revoke", "--dir", site_folder, stdin=patients[count - 1])
        assert site.stopped == frozenset(patients[:count])


def test_a_file_from_before_the_ledger_is_taken_over_with_its_dates(site_folder: Path, patients: list[str]) -> None:
    received = "2026-03-01T00:00:00+00:00"
    due = "2026-03-31T00:00:00+00:00"
    entry = {"receipt": "6f1e0c5ab2d94e37", "received": received, "due": due}
    closed = {**entry, "state": "unlearned", "closed": "2026-03-05T00:00:00+00:00"}
    states = {
        patients[0]: closed,
        patients[1]: {**entry, "state": "pending"},
        "stranger": {**entry, "state": "untrained"},
    }
    file = site_folder / "revocations.json"
    file.write_text(json.dumps({"version": 2, "patients": states}), encoding="utf-8")
    assert Site(site_folder).stopped == frozenset(patients[:2])
    assert waiting(site_folder) == (1, datetime(2026, 3, 31, tzinfo=UTC))
    assert not file.exists()
    Site(site_folder).revoke(patients[2:3])
    found = read_revocations(site_folder).patients
    assert {p: e.state for p, e in found.items()} == {
        patients[0]: State.UNLEARNED,
        patients[1]: State.PENDING,
        patients[2]: State.PENDING,
        "stranger": State.EXCLUDED,
    }
    assert found[patients[0]].closed == datetime(2026, 3, 5, tzinfo=UTC)
    assert found[patients[1]].receipt == entry["receipt"]


def test_a_file_without_dates_is_taken_over_with_the_date_of_the_file(site_folder: Path, patients: list[str]) -> None:
    states = {patients[0]: "unlearned", patients[1]: "pending"}
    file = site_folder / "revocations.json"
    file.write_text(json.dumps({"states": states}), encoding="utf-8")
    written = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    found = read_revocations(site_folder).patients
    assert {p: e.state for p, e in found.items()} == states
    assert found[patients[1]].received == written


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{}", b"[]", b"\xff", b'{"states": {"p": "maybe"}}', b'{"version": 3, "patients": {}}']
)
def test_a_damaged_file_from_before_the_ledger_is_an_error_and_stays(site_folder: Path, content: bytes) -> None:
    file = site_folder / "revocations.json"
    file.write_bytes(content)
    with pytest.raises(CohortError, match="damaged"):
        Site(site_folder)
    assert file.read_bytes() == content
