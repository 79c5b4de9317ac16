"""The coordinator's folder, as `fedforget-server init` makes it."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from common.errors import ConfigError, InputError, UnavailableError
from common.learning.config import ExperimentConfig, FoldsConfig
from common.platform.keys.certificates import certificate_fingerprint, load_certificate, public_key
from common.platform.keys.private_keys import load_ec_key, load_signing_key, read_passphrase
from common.platform.sql import open_database
from server.cli import app
from server.database import pending_migration
from server.membership.setup import create_server, renew_certificate
from server.settings import PolicyConfig, PortsConfig, ServerFolder

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def folder(tmp_path: Path) -> ServerFolder:
    assert invoke("init", tmp_path / "federation", "--host", "fed.example.org", "--host", "192.0.2.7")[0] == 0
    return ServerFolder(tmp_path / "federation")


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_init_makes_all_that_the_coordinator_needs(folder: ServerFolder) -> None:
    settings = folder.settings()
    assert settings.hosts == ("fed.example.org", "192.0.2.7")
    assert (settings.ports, settings.policy, settings.experiment) == (
        PortsConfig(),
        PolicyConfig(),
        ExperimentConfig(folds=FoldsConfig(targets=4, audit=2)),
    )
    engine = open_database(folder.database_url(settings))
    assert pending_migration(engine) is None
    engine.dispose()
    ca = load_certificate(folder.ca_certificate)
    passphrase = read_passphrase(folder.passphrase)
    assert ca.public_key() == load_ec_key(folder.ca_key, passphrase).public_key()
    assert load_certificate(folder.certificate).public_key() == load_ec_key(folder.key).public_key()
    assert load_signing_key(folder.signing_key, folder.passphrase).public != public_key(ca)
    assert len(folder.superexec_secret.read_bytes()) == 64


def test_what_is_commented_out_in_the_settings_is_valid_too(folder: ServerFolder) -> None:
    text = folder.settings_file.read_text()
    lines = [line.removeprefix("# ") if " = " in line else line for line in text.splitlines()]
    folder.settings_file.write_text("\n".join(lines))
    settings = folder.settings()
    assert settings.policy == PolicyConfig()
    assert settings.classes
    assert settings.database.startswith("postgresql+pg8000://")


def test_labels_are_given_in_order(tmp_path: Path) -> None:
    labels = ("--class", 'no "finding"', "--class", "pneumonia")
    assert invoke("init", tmp_path / "federation", "--host", "localhost", *labels)[0] == 0
    assert ServerFolder(tmp_path / "federation").settings().classes == ('no "finding"', "pneumonia")


def test_init_prints_the_fingerprint_of_the_authority(tmp_path: Path) -> None:
    code, out, _ = invoke("init", tmp_path / "federation", "--host", "localhost", "--json")
    folder = ServerFolder(tmp_path / "federation")
    printed = certificate_fingerprint(load_certificate(folder.ca_certificate))
    assert (code, json.loads(out)) == (0, {"folder": str(folder.root), "ca_fingerprint": printed})


def test_only_the_owner_can_enter_the_folder_and_read_its_secrets(folder: ServerFolder) -> None:
    assert folder.root.stat().st_mode & 0o077 == 0
    for path in (folder.ca_key, folder.key, folder.signing_key, folder.passphrase, folder.superexec_secret):
        assert path.stat().st_mode & 0o777 == 0o600


def test_init_never_overwrites(folder: ServerFolder) -> None:
    before = content(folder.root)
    code, out, err = invoke("init", folder.root, "--host", "localhost")
    assert (code, out) == (2, "")
    assert "not empty" in err
    assert content(folder.root) == before


@pytest.mark.parametrize("host", ["https://fed.example.org", "fed.example.org:8443", ""])
def test_a_failed_init_leaves_nothing(tmp_path: Path, host: str) -> None:
    code, _, err = invoke("init", tmp_path / "federation", "--host", host)
    assert code == 2
    assert "neither a name nor an address" in err
    assert not list(tmp_path.iterdir())


def test_the_certificate_is_renewed_for_the_same_key_and_the_hosts_in_the_settings(folder: ServerFolder) -> None:
    before = content(folder.root)
    text = folder.settings_file.read_text().replace('"192.0.2.7"', '"new.example.org"')
    folder.settings_file.write_text(text)
    old = load_certificate(folder.certificate)
    later = NOW + timedelta(days=500)
    new = renew_certificate(folder, later)
    assert load_certificate(folder.certificate) == new
    assert new.public_key() == old.public_key()
    assert new.not_valid_after_utc == later + timedelta(days=825)
    names = new.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fed.example.org", "new.example.org", "localhost"]
    changed = {name for name, data in content(folder.root).items() if before[name] != data}
    assert changed == {"server.toml", "pki/server.crt"}


def test_without_the_authoritys_key_nothing_is_renewed(folder: ServerFolder, tmp_path: Path) -> None:
    before = folder.certificate.read_bytes()
    shutil.move(folder.ca_key, tmp_path / "vault")
    code, _, err = invoke("certificate", "renew", "--dir", folder.root)
    assert code == 2
    assert "ca.key: cannot read" in err
    assert folder.certificate.read_bytes() == before
    shutil.move(tmp_path / "vault", folder.ca_key)
    assert invoke("certificate", "renew", "--dir", folder.root)[0] == 0
    assert folder.certificate.read_bytes() != before


def test_a_folder_that_init_did_not_make_is_refused_and_left_alone(tmp_path: Path) -> None:
    code, _, err = invoke("site", "list", "--dir", tmp_path)
    assert code == 2
    assert "server.toml: no such file" in err
    assert not list(tmp_path.iterdir())


def test_a_database_of_another_version_is_refused(folder: ServerFolder) -> None:
    with sqlite3.connect(folder.root / "server.db") as connection:
        connection.execute("update alembic_version set version_num = '0000'")
    connection.close()
    code, _, err = invoke("site", "list", "--dir", folder.root)
    assert code == 2
    assert "schema is 0000" in err


def test_a_coordinator_is_created_on_an_empty_postgresql_database_and_on_no_other(
    tmp_path: Path, postgres_url: str
) -> None:
    create_server(tmp_path / "first", ["localhost"], NOW, database=postgres_url)
    folder = ServerFolder(tmp_path / "first")
    assert folder.settings().database == postgres_url
    assert folder.settings_file.stat().st_mode & 0o077 == 0
    with pytest.raises(InputError, match="the database has tables already"):
        create_server(tmp_path / "second", ["localhost"], NOW, database=postgres_url)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("url", ["mysql://a@b/c", "postgresql://a@b/c", "server.db"])
def test_a_url_of_another_database_is_refused_before_anything_is_written(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="not a PostgreSQL URL"):
        create_server(tmp_path / "coordinator", ["localhost"], NOW, database=url)
    assert not (tmp_path / "coordinator").exists()


def test_a_database_that_does_not_answer_leaves_no_folder(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UnavailableError):
        create_server(
            tmp_path / "coordinator", ["localhost"], NOW, database=f"postgresql+pg8000://a:b@127.0.0.1:{port}/c"
        )
    assert not (tmp_path / "coordinator").exists()
