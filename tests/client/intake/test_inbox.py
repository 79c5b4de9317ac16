"""Signed opt-out lists in a watched folder."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.intake.inbox import QUIET, Inbox
from client.revocations.opening import open_ledger
from client.revocations.tombstones.overview import overview
from client.settings import SiteFolder
from common.errors import CohortError, UnavailableError
from common.evidence.keys import PublicKey, SigningKey
from common.files import write_durable

KEY = SigningKey.generate()
OTHER = SigningKey.generate()
NOW = datetime(2026, 11, 1, 8, tzinfo=UTC)


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    (tmp_path / "inbox").mkdir()
    subsets = {"p-1": "train", "p-2": "train", "p-3": "test"}
    (tmp_path / "site.json").write_text(json.dumps({"name": "north", "subsets": subsets}))
    (tmp_path / "site.db").touch()  # as a real site has it, not a simulated one
    with open_ledger(SiteFolder(tmp_path)) as ledger:
        yield Inbox(ledger, tmp_path / "inbox", (KEY.public,))


def put(inbox: Inbox, name: str, content: bytes, *, by: SigningKey = KEY, at: datetime = NOW) -> None:
    for file, written in ((name, content), (f"{name}.sig", by.sign(content))):
        (inbox.folder / file).write_bytes(written)
        os.utime(inbox.folder / file, (at.timestamp(), at.timestamp()))


def revoked(inbox: Inbox) -> dict[str, str]:
    return {p: entry.state for p, entry in overview(inbox.ledger).patients.items()}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"patient_id,note\np-1,x\nstranger,\np-3,\n"),
        ("a.txt", b"p-1\nstranger\np-3\np-1\n"),
        ("a.json", b'{"patients": ["p-1", " stranger ", "p-3"]}'),
    ],
)
def test_a_signed_list_is_recorded_and_moved_with_its_receipt(inbox: Inbox, name: str, content: bytes) -> None:
    put(inbox, name, content, at=NOW - timedelta(days=1))
    assert inbox.look(NOW) == 1
    assert revoked(inbox) == {"p-1": "use-stopped", "p-3": "evaluation-only", "stranger": "excluded-before-training"}
    receipt = json.loads((inbox.folder / "done" / f"{name}.receipt.json").read_text())
    entry = overview(inbox.ledger).patients["p-1"]
    assert (receipt["receipt"], receipt["patients"]) == (entry.receipt, 3)
    assert entry.received == NOW - timedelta(days=1)
    assert entry.due == datetime(2026, 11, 30, 8, tzinfo=UTC)
    assert sorted(os.listdir(inbox.folder)) == ["done"]
    assert (inbox.folder / "done" / name).read_bytes() == content


@pytest.mark.parametrize(
    ("content", "kind", "basis"),
    [
        (
            b"patient_id,kind,legal_basis\np-1,withdrawal,GDPR 7(3)\np-3,withdrawal,GDPR 7(3)\n",
            "withdrawal",
            "GDPR 7(3)",
        ),
        ("Patienten-ID;Legal Basis;Kind\r\np-1;§ 40 GDNG;Objection\r\n".encode("cp1252"), "objection", "§ 40 GDNG"),
        (b"\xef\xbb\xbfpatient_id\tkind\np-1\terasure\npatient_id\tkind\np-3\terasure\n", "erasure", "GDPR 17"),
        (b"patient_id,kind\np-1,\np-3,\n", "opt-out", "not stated"),
        (b"patient_id,legal_basis\np-1,EHDS 71\n", "opt-out", "EHDS 71"),
        (b"p-1\np-3\n", "opt-out", "not stated"),
    ],
)
def test_a_table_states_its_kind_and_its_legal_basis_in_a_column(
    inbox: Inbox, content: bytes, kind: str, basis: str
) -> None:
    put(inbox, "a.csv", content)
    assert inbox.look(NOW) == 1
    (standing,) = inbox.ledger.of_patient("p-1")
    assert (standing.kind, standing.legal_basis) == (kind, basis)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"patient_id,kind\np-1,erasure\np-3,opt-out\n", "row 3: another kind than in the rows above"),
        (b"patient_id,kind\np-1,erasure\np-3,\n", "row 3: another kind than in the rows above"),
        (b"patient_id,legal_basis\np-1,a\np-3,b\n", "row 3: another legal_basis"),
        (b"patient_id,kind,Kind\np-1,erasure,opt-out\n", "column kind is there twice"),
        (b"patient_id,kind\np-1,revoke\n", "not a kind of revocation (one of withdrawal"),
        (b"patient_id,legal_basis\np-1," + b"x" * 201 + b"\n", "at most 200 printable"),
    ],
)
def test_a_table_that_states_two_kinds_or_one_that_nobody_knows_is_refused(
    inbox: Inbox, content: bytes, problem: str
) -> None:
    put(inbox, "a.csv", content)
    assert inbox.look(NOW) == 1
    assert problem in (inbox.folder / "refused" / "a.csv.reason.txt").read_text()
    assert revoked(inbox) == {}


def everything_of(inbox: Inbox) -> list[object]:
    """What the ledger and the tombstones hold."""
    return [inbox.ledger.standing(), inbox.ledger.stones.path.read_bytes()]


@pytest.mark.parametrize("name", ["a.txt", "another-name.txt"])
@pytest.mark.parametrize("newer", [False, True])
def test_a_list_that_was_taken_is_refused_when_it_comes_again(
    inbox: Inbox, caplog: pytest.LogCaptureFixture, name: str, newer: bool
) -> None:
    put(inbox, "a.txt", b"p-1\n")
    inbox.look(NOW)
    if newer:
        put(inbox, "b.txt", b"p-2\n")
        inbox.look(NOW)

    (receipt,) = {entry.receipt for entry in inbox.ledger.of_patient("p-1")}
    before = everything_of(inbox)
    caplog.clear()
    put(inbox, name, b"p-1\n", at=NOW + timedelta(days=40))
    assert inbox.look(NOW + timedelta(days=41)) == 1
    assert everything_of(inbox) == before
    reason = (inbox.folder / "refused" / f"{name}.reason.txt").read_text()
    assert reason == f"this list was already processed, under receipt {receipt}; nothing was recorded\n"
    assert [record.getMessage() for record in caplog.records] == [f"list refused: {reason.strip()}"]
    assert not (inbox.folder / name).exists()


def test_a_list_of_patients_who_had_all_revoked_is_known_when_it_comes_again_too(inbox: Inbox) -> None:
    put(inbox, "a.txt", b"p-1\np-2\n")
    put(inbox, "b.txt", b"p-1\n")
    assert inbox.look(NOW) == 2
    put(inbox, "c.txt", b"p-1\n")
    inbox.look(NOW)
    assert (inbox.folder / "refused" / "c.txt").exists()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_list_that_a_killed_process_left_after_it_was_recorded_is_no_replay(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Killed before the note, before the list is moved, and before its signature is."""

    class KilledError(Exception):
        """In place of the signal, at the very moment."""

    calls = 0

    def killed(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            nonlocal calls
            if (calls := calls + 1) == at + 1:
                raise KilledError
            real(*arguments)

        return call

    put(inbox, "a.txt", b"p-1\n")
    with monkeypatch.context() as patch:
        patch.setattr("client.intake.inbox.write_durable", killed(write_durable))
        patch.setattr("client.intake.taken_files.os.replace", killed(os.replace))
        with pytest.raises(KilledError):
            inbox.look(NOW)

    assert revoked(inbox) == {"p-1": "use-stopped"}
    before = everything_of(inbox)
    inbox.look(NOW)
    assert everything_of(inbox) == before
    assert (inbox.folder / "done" / "a.txt").exists()
    assert (inbox.folder / "done" / "a.txt.receipt.json").exists()
    assert not (inbox.folder / "refused").exists()


def test_nothing_is_read_before_the_signature_is_there_and_the_writing_is_over(inbox: Inbox) -> None:
    content = b"p-1\np-2\n"
    put(inbox, "a.txt", content)
    (inbox.folder / "a.txt.sig").unlink()
    assert inbox.look(NOW) == 0
    (inbox.folder / "a.txt.sig").write_bytes(KEY.sign(content))
    (inbox.folder / "a.txt").write_bytes(content[:4])
    written = datetime.fromtimestamp((inbox.folder / "a.txt").stat().st_mtime, UTC)
    assert inbox.look(written + QUIET / 2) == 0
    assert revoked(inbox) == {}
    (inbox.folder / "a.txt").write_bytes(content)
    assert inbox.look(written + QUIET / 2) == 1
    assert revoked(inbox).keys() == {"p-1", "p-2"}


def refused(inbox: Inbox, name: str) -> str:
    assert inbox.look(NOW + QUIET) == 1
    assert revoked(inbox) == {}
    reason = (inbox.folder / "refused" / f"{name}.reason.txt").read_text()
    assert "secret" not in reason

    return reason


def test_a_list_that_nobody_pinned_signed_is_refused(inbox: Inbox) -> None:
    put(inbox, "a.txt", b"secret-1\n", by=OTHER)
    assert "signature" in refused(inbox, "a.txt")


def test_a_list_changed_after_signing_is_refused(inbox: Inbox) -> None:
    put(inbox, "a.txt", b"secret-1\n")
    (inbox.folder / "a.txt").write_bytes(b"secret-2\n")
    os.utime(inbox.folder / "a.txt", (NOW.timestamp(), NOW.timestamp()))
    assert "signature" in refused(inbox, "a.txt")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"\n", "names no patient"),
        ("a.txt", b"secret-1;secret-2\n", "several values"),
        ("a.csv", b"patient_id\nsecret-1\n\xff\n", "not UTF-8"),
        ("a.json", b'{"patients": ["secret-1"], "more": 1}', "not of the form"),
        ("a.json", b'{"patients": []}', "not of the form"),
        ("a.json", b'{"patients": ["secret-1", " "]}', "entry 2: an empty id"),
        ("a.json", b'{"patients": ["secret-1"], "patients": ["secret-2"]}', "every key once"),
        (
            "a.json",
            b'{"patients": ["secret-1", "secret\\u0000-2", "secret\\u202e-3"]}',
            "entry 2, 3: an identifier with a con",
        ),
        ("a.json", b'{"patients": ["secret\\ud800"]}', "entry 1"),
        ("a.json", b'{"patients": [1234567890123456789]}', "not of the form"),
        ("a.json", b'{"patients": ' + b"[" * 100_000, "not of the form"),
        ("a.txt", b"secret-1\nsecret\x00-2\n", "not text"),
        ("a.txt", b"secret-1\nsecret\x1b[2J-2\nsecret\x07\n", "row 2, row 3: identifier: an identifier with a control"),
        (
            "a.csv",
            b'patient_id\n1.2346E+11\nsecret-1\n"1,2346E+11"\n',
            "row 2, row 4: patient_id: an identifier in scien",
        ),
        (
            "a.csv",
            b"patient_id\nsecret-1;secret-2\n",
            "row 2: several values in a list of patients, separated by semic",
        ),
        ("a.csv", b"name,born\nsecret,1970\n", "separated by commas"),
        ("a.csv", "patient_id\nsecret-\u0444\n".encode("utf-16-le"), "UTF-16 text without a byte-order mark"),
        ("a.csv.gz", gzip.compress(b"patient_id\n" + b"\n" * (64 * 2**20), mtime=0), "bytes when unpacked"),
        ("a.csv.gz", gzip.compress(b"patient_id\nsecret-1\n", mtime=0)[:-9], "damaged gzip"),
    ],
)
def test_a_signed_list_that_cannot_be_read_is_refused_with_a_reason(
    inbox: Inbox, name: str, content: bytes, reason: str
) -> None:
    put(inbox, name, content)
    assert reason in refused(inbox, name)


def test_a_list_of_strangers_alone_is_not_called_done(inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    put(inbox, "a.csv", b"patient_id\nx\ny\n")
    assert inbox.look(NOW) == 1
    receipt = json.loads((inbox.folder / "unknown" / "a.csv.receipt.json").read_text())
    assert (receipt["known"], receipt["unknown"], receipt["doubtful"]) == (0, 2, 0)
    assert receipt["note"].startswith("0 of 2 known here")
    assert not (inbox.folder / "done").exists()
    assert "0 of 2 known here" in caplog.text
    put(inbox, "b.csv", b"patient_id\nx\ny\n")
    assert inbox.look(NOW) == 1
    assert "already processed" in (inbox.folder / "refused" / "b.csv.reason.txt").read_text()


@pytest.mark.parametrize("replaced", ["list", "both", "in place"])
def test_a_list_that_is_replaced_between_reading_and_moving_stays_and_is_read_anew(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, replaced: str
) -> None:
    put(inbox, "a.txt", b"p-1\n")
    second = b"p-2\n"

    def put_second(*_: object) -> None:
        monkeypatch.undo()
        new = inbox.folder / "new"

        if replaced == "in place":
            (inbox.folder / "a.txt").write_bytes(second)
        else:
            new.write_bytes(second)
            os.replace(new, inbox.folder / "a.txt")

        if replaced != "list":
            new.write_bytes(KEY.sign(second))
            os.replace(new, inbox.folder / "a.txt.sig")

        write_durable(*_)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr("client.intake.inbox.write_durable", put_second)
    assert inbox.look(NOW + QUIET) == 1
    assert revoked(inbox).keys() == {"p-1"}
    assert (inbox.folder / "done" / "a.txt").read_bytes() == b"p-1\n"
    assert (inbox.folder / "a.txt").read_bytes() == second
    if replaced == "list":
        assert not (inbox.folder / "a.txt.sig").exists()
        (inbox.folder / "a.txt.sig").write_bytes(KEY.sign(second))

    assert inbox.look(datetime.now(UTC)) == 1
    assert revoked(inbox).keys() == {"p-1", "p-2"}
    assert (inbox.folder / "done" / "a-2.txt").read_bytes() == second
    assert sorted(os.listdir(inbox.folder)) == ["done"]


@pytest.mark.parametrize("content", [b"p-1\n", b"patient_id\np-1\n"])
def test_a_damaged_cohort_leaves_a_valid_list_where_it_is_and_says_so(inbox: Inbox, content: bytes) -> None:
    put(inbox, "a.csv", content)
    cohort = inbox.ledger.folder.root / "site.json"
    whole = cohort.read_bytes()
    cohort.write_bytes(whole[:20])
    with pytest.raises(CohortError, match="no data were imported here"):
        inbox.look(NOW)
    assert sorted(os.listdir(inbox.folder)) == ["a.csv", "a.csv.sig"]
    cohort.write_bytes(whole)
    assert inbox.look(NOW) == 1
    assert revoked(inbox).keys() == {"p-1"}


def test_a_damaged_note_leaves_new_lists_where_they_are_and_names_it(inbox: Inbox) -> None:
    put(inbox, "a.txt", b"p-1\n")
    inbox.look(NOW)
    (inbox.folder / "done" / "a.txt.receipt.json").write_bytes(b"{")
    put(inbox, "b.txt", b"p-2\n")
    with pytest.raises(CohortError, match="damaged note") as caught:
        inbox.look(NOW)
    assert "done/a.txt.receipt.json" in str(caught.value)
    assert (inbox.folder / "b.txt").exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_list_that_cannot_be_read_now_stays_and_does_not_stop_the_others(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    put(inbox, "a.txt", b"p-1\n")
    put(inbox, "b.txt", b"p-3\n")
    real = os.open

    def fails(path: Path, flags: int, *more: int) -> int:
        if Path(path).name == "a.txt":
            raise OSError(number, os.strerror(number))
        return real(path, flags, *more)

    monkeypatch.setattr("client.intake.taken_files.os.open", fails)
    with pytest.raises(UnavailableError, match=f"a.txt cannot be read: {os.strerror(number)}"):
        inbox.look(NOW)
    monkeypatch.undo()
    assert revoked(inbox).keys() == {"p-3"}
    assert (inbox.folder / "a.txt").exists()
    assert inbox.look(NOW) == 1
    assert revoked(inbox).keys() == {"p-1", "p-3"}


def test_a_link_is_not_followed(inbox: Inbox) -> None:
    put(inbox, "b.txt", b"p-1\n")
    shutil.move(inbox.folder / "b.txt", inbox.ledger.folder.root / "elsewhere.txt")
    shutil.move(inbox.folder / "b.txt.sig", inbox.folder / "a.txt.sig")
    (inbox.folder / "a.txt").symlink_to(inbox.ledger.folder.root / "elsewhere.txt")
    refused(inbox, "a.txt")


def test_the_process_takes_lists_until_it_is_stopped(inbox: Inbox) -> None:
    (inbox.ledger.folder.root / "office.pem").write_bytes(KEY.public.pem)
    (inbox.ledger.folder.root / "site.toml").write_text(
        'name = "north"\ngateway = "localhost:1"\ncoordination = "localhost:2"\nca_fingerprint = "00"\n'
        '[inbox]\nenabled = true\nkeys = ["office.pem"]\n'
    )
    put(inbox, "a.txt", b"p-1\n")
    command = [sys.executable, "-m", "client.intake.inbox", "--dir", str(inbox.ledger.folder.root)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while "p-1" not in revoked(inbox) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.terminate()
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0, log
    assert revoked(inbox).keys() == {"p-1"}
    assert "p-1" not in log


def test_the_commands_of_the_how_to_sign_a_list_that_is_taken(inbox: Inbox) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "fhir.md").read_text(encoding="utf-8")
    commands = [line.split() for line in page.splitlines() if line.startswith("    openssl ")]
    assert len(commands) == 3
    (inbox.folder / "list.csv").write_text("patient_id\np-1\n")
    for line in commands:
        subprocess.run(line, cwd=inbox.folder, check=True, capture_output=True, timeout=60)
    key = PublicKey.from_pem((inbox.folder / "consent-office.pem").read_bytes())
    assert Inbox(inbox.ledger, inbox.folder, (key,)).look(datetime.now(UTC)) == 1
    assert revoked(inbox).keys() == {"p-1"}
