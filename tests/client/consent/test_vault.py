"""Documents and salts at rest."""

from __future__ import annotations

import secrets
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from client.revocations.opening import open_ledger
from client.revocations.vault import Vault
from client.settings import SiteFolder
from common.errors import InputError
from common.evidence.commitment import check_commitment

RECEIPT = "6f1e0c5ab2d94e37"


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault", secrets.token_bytes)


def test_what_is_kept_opens_its_commitment_and_is_its_owners_alone(vault: Vault) -> None:
    committed = vault.keep(RECEIPT, b"I revoke.")
    kept = vault.opened(RECEIPT)
    assert kept is not None
    check_commitment(b"I revoke.", kept.salt, committed)
    vault.settle(RECEIPT)
    assert vault.opened(RECEIPT) == kept
    assert stat.S_IMODE((vault.folder / RECEIPT).stat().st_mode) == 0o600


def test_what_an_attempt_left_stays_if_it_is_the_same_and_else_is_replaced(vault: Vault) -> None:
    first = vault.keep(RECEIPT, b"I revoke.")
    assert vault.keep(RECEIPT, b"I revoke.") == first
    assert vault.keep(RECEIPT, b"I revoke!") != first
    kept = vault.opened(RECEIPT)
    assert kept is not None
    assert kept.document == b"I revoke!"


def test_one_document_under_two_receipts_has_two_commitments(vault: Vault) -> None:
    assert vault.keep(RECEIPT, b"I revoke.") != vault.keep(RECEIPT[::-1], b"I revoke.")


def test_what_is_erased_is_gone_and_its_commitment_opens_no_more(vault: Vault) -> None:
    vault.keep(RECEIPT, b"I revoke.")
    assert vault.erase(RECEIPT)
    assert not vault.erase(RECEIPT)
    assert list(vault.folder.iterdir()) == []
    assert vault.opened(RECEIPT) is None


KILLED = """
import os, signal, sys
import client.revocations.ledger, client.revocations.tombstones.file, client.revocations.vault, common.files
from client.cli import app

holder, _, name = sys.argv.pop(1).rpartition(".")
place = {"Vault": client.revocations.vault.Vault, "Ledger": client.revocations.ledger.Ledger,
         "TombstoneFile": client.revocations.tombstones.file.TombstoneFile, "os": os}[holder]
real = getattr(place, name)

def killed(*arguments, **more):
    if holder == "TombstoneFile":
        real(*arguments, **more)
    last = arguments[1]
    if "vault" in str(last) if holder == "os" else last:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **more)

setattr(place, name, killed)
app()
"""


@pytest.mark.parametrize(
    ("at", "revoked"),
    [
        ("os.replace", False),  # within the writing of the form
        ("Ledger.add", False),  # the form is whole, the ledger has nothing
        ("TombstoneFile.append", True),  # the tombstone is on the disk, the database is not
        ("Vault.settle", True),  # all of it is
    ],
)
def test_what_a_killed_command_left_goes_at_the_next_one_unless_it_was_recorded(
    site_folder: Path, secret: str, tmp_path: Path, at: str, revoked: bool
) -> None:
    form = tmp_path / "form.pdf"
    vault = Vault(site_folder / "vault", secrets.token_bytes)
    form.write_bytes(b"I revoke.")
    with open_ledger(SiteFolder(site_folder)):
        pass
    command = ["revoke", "--document", str(form), "--dir", str(site_folder), "--steward", "office"]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, at, *command], input=f"{secret}-0\n", text=True, check=False, timeout=120,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert len([*vault.folder.iterdir()]) == 1
    with open_ledger(SiteFolder(site_folder)) as ledger:
        found = ledger.standing()
        assert ledger.is_stopped(f"{secret}-0") == revoked

    assert [path.name for path in vault.folder.iterdir()] == [standing.receipt for standing in found]
    assert len(found) == int(revoked)

    for standing in found:
        kept = vault.opened(standing.receipt)
        assert kept is not None
        assert kept.document == b"I revoke."


def test_a_form_of_an_earlier_release_or_of_a_lost_record_is_never_removed(site_folder: Path) -> None:
    vault = Vault(site_folder / "vault", secrets.token_bytes)
    vault.keep(RECEIPT, b"I revoke.")
    vault.settle(RECEIPT)
    with open_ledger(SiteFolder(site_folder)):
        pass
    assert vault.opened(RECEIPT) is not None


@pytest.mark.parametrize("name", ["../site.toml", "", "ABC", "6f1e0c5ab2d94e37/.."])
def test_only_receipts_are_names_in_the_vault(vault: Vault, name: str) -> None:
    with pytest.raises(InputError, match="invalid receipt"):
        vault.keep(name, b"I revoke.")
