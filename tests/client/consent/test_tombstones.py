"""The tombstones: cut short, damaged, lost, restored, and watched by a process that runs."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.revocations.ledger import Ledger
from client.revocations.revocation import Request, Source, State
from client.revocations.tombstones.file import TombstoneFile
from client.revocations.tombstones.tombstone import Tombstone, said_of
from client.revocations.tombstones.watch import TombstoneWatch
from client.settings import SiteFolder
from common.errors import CohortError, InputError, OutputError

Opening = Callable[[], AbstractContextManager[Ledger]]
RequestFactory = Callable[..., Request]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
A = "a" * 64
B = "b" * 64
C = "c" * 64


def stone(pseudonym: str, receipt: str = "r", kind: str = "stop") -> Tombstone:
    return Tombstone("stop" if kind == "stop" else "lift", pseudonym, receipt, NOW)


@pytest.fixture
def file(tmp_path: Path) -> TombstoneFile:
    return TombstoneFile(tmp_path / "tombstones.log", "f" * 16)


def test_what_is_appended_is_read_back_and_a_refusal_lifts_one_receipt_alone(file: TombstoneFile) -> None:
    assert file.read() is None
    file.append([stone(A), stone(B), stone(A, "s")])
    file.append([stone(A, "s", "lift"), stone(B, kind="lift")])
    assert file.read() == {(A, "r"): stone(A)}
    assert file.path.stat().st_mode & 0o077 == 0


def test_a_long_legal_basis_in_any_script_can_be_read_back(file: TombstoneFile) -> None:
    wide = Request(
        Source("list", "s"),
        "r",
        NOW,
        legal_basis="\U0001f600" * 200,
        steward="\u6c34" * 200,
        identity="\u00e9" * 200,
    )
    said = said_of(wide)
    written = replace(stone(A), more=said)
    file.append([written])
    assert file.read() == {(A, "r"): written}


def test_wherever_a_write_is_cut_short_what_was_acknowledged_is_there(file: TombstoneFile) -> None:
    file.append([stone(A)])
    before = file.path.stat().st_size
    file.append([stone(B)])
    whole = file.path.read_bytes()

    for end in range(len(whole)):
        file.path.write_bytes(whole[:end])
        found = file.read()
        assert found is not None
        assert set(found) == ({(A, "r")} if end >= before else set()), end
        file.append([stone(C)])
        found = file.read()
        assert found is not None
        assert set(found) == ({(A, "r"), (C, "r")} if end >= before else {(C, "r")}), end


def test_every_changed_byte_of_a_whole_file_is_found(file: TombstoneFile) -> None:
    file.append([stone(A), stone(B)])
    whole = file.path.read_bytes()

    for place in range(len(whole) - 1):
        for changed in (whole[place] ^ 1, ord("\n"), 0):
            if changed == whole[place]:
                continue
            file.path.write_bytes(whole[:place] + bytes([changed]) + whole[place + 1 :])
            with pytest.raises(CohortError):
                file.read()
            with pytest.raises(CohortError):
                TombstoneWatch(file).now()


def test_a_damaged_header_is_not_written_over(file: TombstoneFile) -> None:
    file.path.write_bytes(b"x" * 3000)
    with pytest.raises(CohortError, match="damaged"):
        file.append([stone(A)])
    assert file.path.read_bytes() == b"x" * 3000


def test_tombstones_of_another_secret_are_not_taken_for_ones_of_nobody(file: TombstoneFile) -> None:
    file.append([stone(A)])
    other = TombstoneFile(file.path, "e" * 16)
    for use in (other.read, TombstoneWatch(other).now, lambda: other.append([stone(B)])):
        with pytest.raises(CohortError, match="another secret"):
            use()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("rs"), st.booleans()), max_size=12), st.data())
def test_a_watch_sees_what_the_file_says_whenever_it_looks(
    file: TombstoneFile, steps: list[tuple[str, str, bool]], data: st.DataObject
) -> None:
    file.path.unlink(missing_ok=True)
    watch = TombstoneWatch(file)
    expected = set[tuple[str, str]]()

    for letter, receipt, stops in steps:
        file.append([stone(letter * 64, receipt, "stop" if stops else "lift")])
        (expected.add if stops else expected.discard)((letter * 64, receipt))
        if data.draw(st.booleans()):
            assert watch.now() == {pseudonym for pseudonym, _ in expected}

    assert watch.now() == {pseudonym for pseudonym, _ in expected}


def test_a_watch_reads_a_file_that_took_the_place_of_another_and_misses_one_that_is_gone(file: TombstoneFile) -> None:
    watch = TombstoneWatch(file)
    assert watch.now() == frozenset()
    file.append([stone(A)])
    assert watch.now() == {A}
    other = TombstoneFile(file.path.with_name("other"), file.check)
    other.append([stone(B), stone(C)])
    os.replace(other.path, file.path)
    assert watch.now() == {B, C}
    os.rename(file.path, file.path.with_name("aside"))
    file.append([stone(C)])
    assert watch.now() == {C}
    file.path.unlink()
    with pytest.raises(CohortError, match="gone"):
        watch.now()


def test_a_watch_finds_that_a_folder_above_the_file_was_moved(tmp_path: Path) -> None:
    folder = tmp_path / "hospital"
    folder.mkdir()
    file = TombstoneFile(folder / "tombstones.log", "f" * 16)
    file.append([stone(A)])
    watch = TombstoneWatch(file)
    assert watch.now() == {A}
    folder.rename(tmp_path / "aside")
    folder.mkdir()
    file.append([stone(B)])
    end = time.monotonic() + 30
    while watch.now() != {B}:
        assert time.monotonic() < end


def test_a_watch_keeps_one_file_open_however_often_it_looks_and_none_when_it_is_let_go(file: TombstoneFile) -> None:
    def handles() -> int:
        return sum(1 for each in Path("/proc/self/fd").iterdir() if os.path.realpath(each) == str(file.path))

    watch = TombstoneWatch(file)
    for receipt in ("r1", "r2", "r3"):
        file.append([stone(A, receipt)])
        watch.now()

    assert handles() == 1
    del watch
    assert handles() == 0


def test_a_watch_gives_the_same_object_until_something_changes(file: TombstoneFile) -> None:
    file.append([stone(A)])
    watch = TombstoneWatch(file)
    before = watch.now()
    assert watch.now() is before
    file.append([stone(B)])
    assert watch.now() is not before


def test_what_an_older_backup_of_the_database_lacks_is_put_back(
    folder: SiteFolder, opening: Opening, asked: RequestFactory, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with opening() as ledger:
        ledger.record(asked("r-1"), ["p-0"])
    shutil.copytree(folder.root, tmp_path / "backup")
    with opening() as ledger:
        received = NOW + timedelta(days=1)
        ledger.record(asked("r-2", received=received), ["p-1", "p-5", "MRN-7"], also_unknown=True)

    for path in folder.root.glob("revocations.db*"):
        path.unlink()
    shutil.copy(tmp_path / "backup" / "revocations.db", folder.root)

    with opening() as ledger:
        assert len(ledger.stopped()) == 4
        restored = ledger.standing("r-2")
        assert {s.source.kind for s in restored} == {"restored"}
        assert {s.received for s in restored} == {received}
        assert sorted(s.state for s in restored) == sorted([State.PENDING, State.EVALUATION_ONLY, State.EXCLUDED])
        assert ledger.waiting().number == 2
        count = len(ledger.standing())

    assert "3 revocation(s) that the database lacked were restored" in caplog.text
    with opening() as ledger:
        assert len(ledger.standing()) == count
        again = ledger.record(asked("r-2", received=received), ["p-1"])
        assert (again.receipt, again.earlier) == ("r-2", 1)
        assert ledger.waiting().number == 2


def test_tombstones_that_were_lost_are_written_again_only_where_somebody_says_so(
    folder: SiteFolder, opening: Opening, asked: RequestFactory
) -> None:
    with opening() as ledger:
        ledger.record(asked(), ["p-0"])
    folder.tombstones.unlink()
    with pytest.raises(CohortError, match="gone"), opening():
        pass
    folder.tombstones.touch()
    with opening() as ledger:
        assert ledger.is_stopped("p-0")


def test_a_crash_between_tombstone_and_database_leaves_the_patient_out_and_one_revocation(
    opening: Opening, asked: RequestFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TombstoneFile.append

    def append_and_crash(file: TombstoneFile, stones: Sequence[Tombstone]) -> None:
        real(file, stones)
        raise KeyboardInterrupt

    with opening() as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(TombstoneFile, "append", append_and_crash)
            with pytest.raises(KeyboardInterrupt):
                ledger.record(asked(), ["p-0"])

        assert ledger.is_stopped("p-0")
        assert ledger.standing() == ()

    with opening() as ledger:
        ledger.record(asked(), ["p-0"])
        (found,) = ledger.standing()
        assert (found.source.kind, found.receipt, found.state) == ("cli", "r-1", State.PENDING)
        assert ledger.waiting().number == 1


def test_where_the_disk_of_the_tombstones_is_missing_nothing_is_recorded(
    configure: Callable[..., None], opening: Opening, tmp_path: Path
) -> None:
    configure(tombstones=str(tmp_path / "not-mounted" / "tombstones.log"))
    with pytest.raises(OutputError, match="cannot write"), opening():
        pass


def test_tombstones_may_lie_on_another_disk(
    configure: Callable[..., None], opening: Opening, asked: RequestFactory, tmp_path: Path
) -> None:
    (tmp_path / "mounted").mkdir()
    configure(tombstones=str(tmp_path / "mounted" / "stones"))
    with opening() as ledger:
        ledger.record(asked(), ["p-0"])
    assert (tmp_path / "mounted" / "stones").exists()


def test_a_lost_secret_is_never_replaced_by_a_new_one(
    folder: SiteFolder, opening: Opening, asked: RequestFactory
) -> None:
    with opening() as ledger:
        ledger.record(asked(), ["p-0"])
    folder.pseudonym_secret.unlink()
    with pytest.raises(InputError, match="secret that encrypted"), opening():
        pass
    assert not folder.pseudonym_secret.exists()


def test_the_secret_may_come_from_the_environment(
    folder: SiteFolder, opening: Opening, asked: RequestFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDFORGET_PSEUDONYMS", "0" * 64)
    with opening() as ledger:
        ledger.record(asked(), ["p-0"])
    assert not folder.pseudonym_secret.exists()
    monkeypatch.setenv("FEDFORGET_PSEUDONYMS", "1" * 64)
    with pytest.raises(CohortError, match="another secret"), opening():
        pass
