"""A disk that is full says so, by exit code 5, says what was recorded, and the same request again finds itself."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from client.intake.office import Form, hand_in
from client.revocations.opening import open_ledger
from client.revocations.revocation import State
from client.revocations.vault import Vault
from client.settings import SiteFolder
from common.errors import DiskFullError
from common.platform.sql import open_database, transaction
from tests.client.consent.conftest import START

COUNT = 64


def fill(disk: Path, keep: int = 0) -> Path:
    """Take all space of a disk but so many bytes."""
    ballast = disk / "ballast"

    with ballast.open("wb", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(b"x" * 4096)

        file.truncate(max(file.tell() - keep, 0))

    return ballast


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system can be mounted by root alone")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def site_on(place: Path) -> SiteFolder:
    root = place / "site"
    root.mkdir()
    subsets = {f"p-{number}": "train" for number in range(COUNT)}
    (root / "site.json").write_text(json.dumps({"name": "north", "subsets": subsets}))
    (root / "site.db").touch()
    with open_ledger(SiteFolder(root)):
        pass
    return SiteFolder(root)


def command(site: SiteFolder, *patients: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.argv[0] = 'fedforget-site'; from client.cli import app; app()"
    return subprocess.run(
        [sys.executable, "-c", code, "revoke", "--json", "--dir", str(site.root)],
        input="".join(f"{patient}\n" for patient in patients),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_on_a_real_full_disk_every_attempt_says_so_and_the_same_again_is_one_receipt(disk: Path) -> None:
    site = site_on(disk)
    patients = [f"p-{number}" for number in range(COUNT)]
    codes = set()
    ballast = fill(disk)

    for keep in (0, 32_768):
        ballast.unlink()
        ballast = fill(disk, keep)
        found = command(site, *patients)
        codes.add(found.returncode)
        assert found.returncode in (0, 5), found.stderr
        assert "Traceback" not in found.stderr
        assert "damaged" not in found.stderr
        if found.returncode == 5:
            assert "the disk is full" in found.stderr

    assert 5 in codes
    ballast.unlink()
    last = command(site, *patients)
    again = command(site, *patients)
    assert (last.returncode, again.returncode) == (0, 0)
    assert json.loads(last.stdout)["receipt"] == json.loads(again.stdout)["receipt"]
    with open_ledger(site) as ledger:
        assert len({standing.receipt for standing in ledger.standing()}) == 1
        assert len(ledger.stopped()) == COUNT


def test_a_database_that_takes_no_more_leaves_the_tombstones_and_gives_the_same_receipt_later(tmp_path: Path) -> None:
    site = site_on(tmp_path)
    patients = [f"p-{number}" for number in range(COUNT)]
    vault = Vault(site.vault, os.urandom)
    form = Form(received=START, kind="opt-out", steward="lee", identity="user:1000:lee", document=b"signed")

    with open_ledger(site) as ledger:
        real = ledger.stones.append

        def full(stones: Any) -> None:
            real(stones)
            if stones:
                raise DiskFullError("the disk is full: the transaction was not written", where="site.db")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("client.revocations.tombstones.file.TombstoneFile.append", lambda _, stones: full(stones))
            with pytest.raises(DiskFullError, match="the disk is full"):
                hand_in(ledger, None, vault, patients, form, "aa" * 8)

        assert not any(site.vault.iterdir())
        assert ledger.standing() == ()
        assert len(ledger.stopped()) == COUNT

    with open_ledger(site) as ledger:
        made = hand_in(ledger, None, vault, patients, form, "bb" * 8)
        assert (made.receipt, made.patients, made.earlier) == ("aa" * 8, COUNT, COUNT)
        assert {s.receipt for s in ledger.standing()} == {"aa" * 8}
        assert {s.source.kind for s in ledger.standing()} == {"cli"}
        assert {(s.kind, s.steward, s.state) for s in ledger.standing()} == {("opt-out", "lee", State.USE_STOPPED)}
        kept = vault.opened("aa" * 8)
        assert kept is not None
        assert ledger.standing()[0].source.digest == kept.commitment
        other = hand_in(ledger, None, vault, ["p-1"], Form(received=START), "cc" * 8)
        assert other.receipt == "cc" * 8


def test_sqlite_that_is_full_is_not_called_damaged(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'a.db'}")

    def fill_it() -> None:
        with transaction(engine) as session:
            session.connection().exec_driver_sql("insert into t values (zeroblob(100000))")

    with transaction(engine) as session:
        session.connection().exec_driver_sql("create table t (x)")
    with engine.connect() as connection:
        connection.exec_driver_sql("pragma max_page_count = 3")
    with pytest.raises(DiskFullError, match=r"the disk is full.*the transaction was not written"):
        fill_it()
    engine.dispose()


def test_tombstones_that_do_not_fit_leave_nothing_of_themselves(tmp_path: Path) -> None:
    site = site_on(tmp_path)
    with open_ledger(site) as ledger:
        hand_in(ledger, None, Vault(site.vault, os.urandom), ["p-0"], Form(received=START), "aa" * 8)
        before = site.tombstones.read_bytes()

        def short(handle: int, content: bytes, at: int) -> int:
            if at > len(before):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(handle, content[:100], at)

        real = os.pwrite
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("client.revocations.tombstones.file.os.pwrite", short)
            with pytest.raises(DiskFullError, match=r"nothing was recorded, and use of 1 patient"):
                hand_in(ledger, None, Vault(site.vault, os.urandom), ["p-1"], Form(received=START), "bb" * 8)

        assert site.tombstones.read_bytes() == before
        assert not ledger.is_stopped("p-1")
