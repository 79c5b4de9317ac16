"""The data steward's key: his signature below what the hospital states about revocations, and what is forgotten."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_bytes
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.evidence.event_log import SiteLog
from client.revocations.opening import open_ledger
from client.revocations.revocation import Request, Source
from client.revocations.vault import Vault
from client.settings import SiteFolder
from common.evidence import dsse
from common.evidence.canonical import parse_canonical
from common.evidence.commitment import check_commitment
from common.evidence.keys import PinnedKeys, PublicKey
from common.evidence.statements import PAYLOAD_TYPE, read_revocation
from common.platform.keys.private_keys import load_signing_key
from common.platform.sql import open_database

SECRET = "correct horse battery"
YEAR = timedelta(days=366)


@pytest.fixture
def hospital(site_folder: Path, enrol: Callable[[Path, str], Path]) -> Path:
    return enrol(site_folder, "north")


def run(*arguments: object, typed: str = "") -> tuple[int, Any]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], input=typed)
    return result.exit_code, json.loads(result.stdout) if result.stdout.startswith("{") else result.output


@pytest.fixture
def with_steward(hospital: Path) -> Path:
    code, made = run("steward", "init", "--dir", hospital, typed=SECRET)
    assert code == 0, made
    assert made["setting"] == 'steward_key = "steward/steward.pub"'
    settings = hospital / "site.toml"
    settings.write_text(f"{made['setting']}\n{settings.read_text()}")

    return hospital


def revoke(hospital: Path, patient: str, receipt: str, *, ago: timedelta = timedelta(0)) -> None:
    received = datetime.now(UTC) - ago
    with open_ledger(SiteFolder(hospital)) as ledger:
        ledger.record(Request(Source("cli", receipt), receipt, received), [patient])


def signers(hospital: Path, file: Path) -> tuple[str, ...]:
    folder = SiteFolder(hospital)
    site = load_signing_key(folder.signing_key, folder.passphrase).public
    steward = PublicKey.from_pem((hospital / "steward" / "steward.pub").read_bytes())
    pinned = PinnedKeys.of([("site", site), ("steward", steward)])

    return dsse.verify(dsse.decode_envelope(file.read_bytes()), PAYLOAD_TYPE, pinned, {})


def test_a_statement_carries_the_signatures_of_site_and_steward(
    with_steward: Path, secret: str, tmp_path: Path
) -> None:
    place = ("--dir", with_steward)
    file = tmp_path / "revocation.json"
    revoke(with_steward, f"{secret}-0", "aa")
    revoke(with_steward, f"{secret}-1", "bb")
    code, written = run("log", "statement", "aa", file, *place)
    assert (code, "steward has not signed" in written["state"]) == (0, True)
    assert signers(with_steward, file) == ("site",)
    assert run("steward", "show", *place)[1]["waiting"] == ["aa", "bb"]
    assert run("steward", "sign", "aa", *place, typed=SECRET) == (0, {"signed": ["aa"]})
    assert run("log", "statement", "aa", file, *place)[1]["state"] == "complete"
    assert signers(with_steward, file) == ("site", "steward")
    assert run("steward", "sign", *place, typed=SECRET) == (0, {"signed": ["bb"]})
    assert run("steward", "show", *place)[1]["waiting"] == []
    assert run("steward", "sign", *place) == (0, {"signed": []})
    kinds = [leaf["kind"] for leaf in run("log", "show", *place)[1]["leaves"]]
    assert kinds.count("steward-signed") == 2
    assert run("log", "verify", *place)[0] == 0


def test_the_steward_sees_what_he_signs_and_nobodys_name(with_steward: Path, secret: str) -> None:
    revoke(with_steward, f"{secret}-0", "aa")
    arguments = ["steward", "sign", "--dir", str(with_steward)]
    shown = CliRunner().invoke(app, arguments, input=SECRET).output
    assert "withdrawal aa at north" in shown
    assert secret not in shown


def test_no_service_can_open_the_stewards_key(with_steward: Path) -> None:
    private = with_steward / "steward" / "steward.pem"
    assert private.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert all(SECRET.encode() not in path.read_bytes() for path in with_steward.rglob("*") if path.is_file())
    assert run("steward", "init", "--dir", with_steward, typed=SECRET)[0] == 2


def test_what_is_no_stewards_key_signs_nothing(with_steward: Path, secret: str, tmp_path: Path) -> None:
    place = ("--dir", with_steward)
    revoke(with_steward, f"{secret}-0", "aa")
    own = SiteFolder(with_steward)
    other = ("--key", own.signing_key, "--passphrase-file", own.passphrase)
    open_to_all = tmp_path / "passphrase"
    open_to_all.write_text(SECRET)
    open_to_all.chmod(0o644)

    for more, typed, says in (
        ((), "wrong", "does not open"),
        ((), "", "no passphrase"),
        (other, "", "the key is not the one that site.toml names"),
        (("--passphrase-file", open_to_all), "", "others can read"),
        (("zz",), SECRET, "not waiting for the steward"),
    ):
        code, output = run("steward", "sign", *more, *place, typed=typed)
        assert code == 2, output
        assert says in output

    assert run("steward", "show", *place)[1]["waiting"] == ["aa"]


def test_where_no_steward_is_named_a_statement_is_complete_without_one(
    hospital: Path, secret: str, tmp_path: Path
) -> None:
    revoke(hospital, f"{secret}-0", "aa")
    code, written = run("log", "statement", "aa", tmp_path / "revocation.json", "--dir", hospital)
    assert (code, written["state"]) == (0, "complete")
    assert run("steward", "show", "--dir", hospital) == (0, {"keyid": None, "waiting": []})
    assert run("steward", "sign", "--dir", hospital, typed=SECRET)[0] == 2


def test_what_was_settled_six_years_ago_is_forgotten_and_the_log_still_holds(with_steward: Path, secret: str) -> None:
    place = ("--dir", with_steward)
    for number, (receipt, ago) in enumerate({"aa": 7 * YEAR, "bb": 7 * YEAR, "cc": YEAR}.items()):
        revoke(with_steward, f"{secret}-{6 + number if receipt != 'bb' else 0}", receipt, ago=ago)
    assert run("steward", "sign", *place, typed=SECRET)[0] == 0
    salts = _salts(with_steward, "aa")
    assert len(salts) == 4
    assert all(_on_disk(with_steward, salt) for salt in salts)
    with _service(with_steward):
        assert_erased(with_steward, salts)
    code, verified = run("log", "verify", *place)
    assert (code, verified["problems"]) == (0, [])
    assert run("log", "statement", "aa", with_steward / "x", *place)[0] == 2
    assert run("log", "erase", *place)[0] == 2


def assert_erased(hospital: Path, salts: list[bytes]) -> None:
    place = ("--dir", hospital)
    # The second one waits for a model without the patient, so it is not settled.
    assert run("log", "erase", "--older-than", 6, *place) == (0, {"erased": ["aa"]})
    assert not any(_on_disk(hospital, salt) for salt in salts)
    assert run("log", "erase", "--older-than", 6, *place) == (0, {"erased": []})


@contextmanager
def _service(hospital: Path) -> Iterator[None]:
    """A process that keeps the database open meanwhile, as `up` does."""
    with closing(sqlite3.connect(hospital / "site.db")) as connection:
        connection.execute("select count(*) from log_vault").fetchall()
        yield


def _salts(hospital: Path, receipt: str) -> list[bytes]:
    engine = open_database(f"sqlite:///{hospital / 'site.db'}")
    with engine.connect() as connection:
        query = "select source, salt from log_vault"
        found = {row.source: row.salt for row in connection.exec_driver_sql(query)}

    engine.dispose()
    return [salt.encode() for source, salt in found.items() if source.endswith(f":{receipt}")]


def _on_disk(hospital: Path, wanted: bytes) -> bool:
    return any(wanted in path.read_bytes() for path in hospital.glob("site.db*"))


def test_the_vault_keeps_the_stewards_signature_with_the_statement(with_steward: Path, secret: str) -> None:
    revoke(with_steward, f"{secret}-0", "aa")
    run("steward", "sign", "--dir", with_steward, typed=SECRET)
    engine = open_database(f"sqlite:///{with_steward / 'site.db'}")
    site = SiteLog(SiteFolder(with_steward), engine, lambda: datetime.now(UTC))
    with site.session() as session:
        found = site.log.opened(session, "steward:aa")
    engine.dispose()
    assert found is not None
    value = parse_canonical(found.document)
    assert isinstance(value, dict)
    assert value.keys() == {"keyid", "receipt", "sig"}


def test_a_statement_commits_to_the_form_that_came_and_erasing_forgets_the_form(
    hospital: Path, secret: str, tmp_path: Path
) -> None:
    place = ("--dir", hospital)
    folder = SiteFolder(hospital)
    form = b"signed form of " + secret.encode()
    vault = Vault(folder.vault, token_bytes)
    committed = vault.keep("aaaaaaaa", form)
    vault.settle("aaaaaaaa")
    revoke(hospital, f"{secret}-0", "aaaaaaaa")
    revoke(hospital, f"{secret}-1", "bbbbbbbb")
    documents = []

    for receipt in ("aaaaaaaa", "bbbbbbbb"):
        assert run("log", "statement", receipt, tmp_path / receipt, *place)[0] == 0
        envelope = dsse.decode_envelope((tmp_path / receipt).read_bytes())
        documents.append(read_revocation(envelope.body).document)

    assert documents[0] == committed
    assert documents[1] != committed
    kept = vault.opened("aaaaaaaa")
    assert kept is not None
    check_commitment(form, kept.salt, documents[0])
    assert run("log", "erase", "aaaaaaaa", *place)[0] == 0
    assert vault.find("aaaaaaaa") is None
    assert not [path for path in folder.vault.iterdir() if path.is_file()]
    assert run("log", "verify", *place)[0] == 0
