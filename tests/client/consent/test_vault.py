"""Documents and salts at rest."""

from __future__ import annotations

import secrets
import stat
from pathlib import Path

import pytest

from client.consent.vault import Vault
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


@pytest.mark.parametrize("name", ["../site.toml", "", "ABC", "6f1e0c5ab2d94e37/.."])
def test_only_receipts_are_names_in_the_vault(vault: Vault, name: str) -> None:
    with pytest.raises(InputError, match="not a receipt"):
        vault.keep(name, b"I revoke.")
