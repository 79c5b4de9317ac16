"""Keys are made in forms that others read, and are refused when others can read them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from common.errors import InputError, OutputError
from common.evidence.keys import SigningKey
from common.files import write_private
from common.platform.keys.private_keys import (
    CREDENTIALS,
    load_ec_key,
    load_signing_key,
    new_authority_key,
    new_node_key,
    new_secret,
    new_tls_key,
    read_passphrase,
)


def test_ssh_keygen_reads_the_node_key(tmp_path: Path) -> None:
    new_node_key(tmp_path / "node")
    command = ["ssh-keygen", "-y", "-f", str(tmp_path / "node")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.split()[:2] == (tmp_path / "node.pub").read_text().split()
    assert printed.startswith("ecdsa-sha2-nistp384 ")


def test_openssl_reads_the_authoritys_key_with_its_passphrase_only(tmp_path: Path) -> None:
    new_authority_key(tmp_path / "ca.key", b"open")
    command = ["openssl", "pkey", "-in", str(tmp_path / "ca.key"), "-noout", "-passin"]
    assert subprocess.run([*command, "pass:open"], capture_output=True, check=False).returncode == 0
    assert subprocess.run([*command, "pass:shut"], capture_output=True, check=False).returncode != 0
    with pytest.raises(InputError, match="does not open"):
        load_ec_key(tmp_path / "ca.key", b"shut")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    new_tls_key(tmp_path / "tls.key")
    load_ec_key(tmp_path / "tls.key")
    (tmp_path / "tls.key").chmod(0o640)
    with pytest.raises(InputError, match=r"others can read this key \(chmod 600"):
        load_ec_key(tmp_path / "tls.key")


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    new_tls_key(tmp_path / "tls.key")
    before = (tmp_path / "tls.key").read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        new_tls_key(tmp_path / "tls.key")
    assert (tmp_path / "tls.key").read_bytes() == before


def test_the_service_managers_passphrase_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CREDENTIALS, raising=False)
    secret = new_secret(tmp_path / "secrets" / "passphrase")
    path = tmp_path / "secrets" / "passphrase"
    assert read_passphrase(path) == secret
    assert len(secret) == 64
    write_private(tmp_path / "credentials" / "passphrase", b"other\n")
    # As systemd shows a file that it lets the service read by an ACL.
    (tmp_path / "credentials" / "passphrase").chmod(0o440)
    monkeypatch.setenv(CREDENTIALS, str(tmp_path / "credentials"))
    assert read_passphrase(path) == b"other"
    key = SigningKey.generate()
    write_private(tmp_path / "signing.pem", key.to_pem(b"other"))
    path.unlink()
    assert load_signing_key(tmp_path / "signing.pem", path).public == key.public
