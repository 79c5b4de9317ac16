"""`log` and `attestation` on both command lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from client.app import open_site
from client.cli import app as site_app
from client.cohort.site_files import write_site
from client.revocations.tombstones.overview import read_revocations
from client.settings import SiteFolder
from common.evidence import dsse
from common.evidence.key_history import KeyHistory
from common.evidence.keys import SigningKey
from common.evidence.schema import decode
from common.evidence.statements import PAYLOAD_TYPE, read_revocation
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Cohort, Split, Subset
from common.platform.keys.private_keys import load_signing_key, read_passphrase
from common.platform.sql import open_database, transaction
from server.cli import app as server_app
from server.settings import ServerFolder


@pytest.fixture
def hospital(
    tmp_path: Path, card: ModelCard, cohort_of: Callable[..., Cohort], enrol: Callable[[Path, str], Path]
) -> Path:
    open_site.cache_clear()
    cohort = cohort_of(2, name="MRN", studies=1)
    split = Split(dict.fromkeys(cohort.patients, Subset.TRAIN))
    write_site(tmp_path / "plain", cohort, split, card, name="north", seed=0, device="cpu", cache=tmp_path / "cache")

    return enrol(tmp_path / "plain", "north")


def run(app: Any, *arguments: object) -> tuple[int, Any]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    return result.exit_code, json.loads(result.stdout) if result.stdout.startswith("{") else result.output


def test_the_coordinators_log_is_shown_verified_and_exported(
    coordinator: ServerFolder, hospital: Path, tmp_path: Path
) -> None:
    place = ("--dir", coordinator.root)
    code, shown = run(server_app, "log", "show", *place)
    assert (code, shown["size"], shown["cosigned"]) == (0, 2, 0)
    assert [(leaf["kind"], leaf["what"].get("site")) for leaf in shown["leaves"]] == [
        ("key", None),
        ("enrolled", "north"),
    ]
    assert "north" in CliRunner().invoke(server_app, ["log", "show", "--dir", str(coordinator.root)]).output
    assert run(server_app, "log", "verify", *place) == (0, {"size": 2, "problems": []})
    code, written = run(server_app, "log", "export", tmp_path / "out", *place)
    assert (code, written["files"]) == (0, ["checkpoint.json", "keys.json", "leaves.jsonl", "server.pub"])
    assert run(server_app, "log", "export", tmp_path / "out", *place)[0] == 2


def test_a_changed_event_ends_log_verify_with_code_6(coordinator: ServerFolder, hospital: Path) -> None:
    place = ("--dir", coordinator.root)
    run(server_app, "log", "show", *place)
    engine = open_database(coordinator.database_url(coordinator.settings()))
    with transaction(engine) as session:
        session.execute(text("update events set site = 'south'"))
    engine.dispose()
    code, found = run(server_app, "log", "verify", *place)
    assert (code, found["problems"]) == (6, ["event 1 was changed after it was logged"])


def test_a_campaign_without_an_attestation_is_said_so(coordinator: ServerFolder, tmp_path: Path) -> None:
    for command in (("show", 1), ("export", 1, tmp_path / "out")):
        result = CliRunner().invoke(server_app, ["attestation", *map(str, command), "--dir", str(coordinator.root)])
        assert result.exit_code == 2
        assert "campaign 1 has no attestation" in result.output

    assert not (tmp_path / "out").exists()


def test_a_hospitals_log_follows_a_revocation_and_names_nobody(hospital: Path, tmp_path: Path) -> None:
    place = ("--dir", hospital)
    result = CliRunner().invoke(site_app, ["revoke", "--dir", str(hospital)], input="MRN-0\n")
    assert result.exit_code == 0, result.output
    code, shown = run(site_app, "log", "show", *place)
    assert code == 0
    assert [leaf["kind"] for leaf in shown["leaves"]] == ["key", "revocation", "tombstone"]
    assert "MRN" not in json.dumps(shown)
    assert run(site_app, "log", "verify", *place) == (0, {"size": 3, "problems": []})
    assert run(site_app, "log", "export", tmp_path / "out", *place)[0] == 0
    (receipt,) = [leaf["what"]["receipt"] for leaf in shown["leaves"] if leaf["kind"] == "tombstone"]
    assert run(site_app, "log", "erase", receipt, *place) == (0, {"erased": [receipt]})
    assert run(site_app, "log", "erase", receipt, *place)[0] == 2
    code, shown = run(site_app, "log", "show", *place)
    assert [leaf["what"] for leaf in shown["leaves"]][1:] == ["erased", "erased"]
    assert run(site_app, "log", "verify", *place) == (0, {"size": 3, "problems": []})
    engine = open_database(f"sqlite:///{hospital / 'site.db'}")
    with transaction(engine) as session:
        session.execute(text("update log_leaves set leaf = replace(leaf, 'tombstone', 'revocation')"))
    engine.dispose()
    code, found = run(site_app, "log", "verify", *place)
    assert code == 6
    assert "the log was changed" in found["problems"][0]


def test_an_exported_log_names_the_keys_before_the_one_of_today(hospital: Path, tmp_path: Path) -> None:
    place = ("--dir", hospital)
    folder = SiteFolder(hospital)
    first = load_signing_key(folder.signing_key, folder.passphrase)
    run(site_app, "log", "show", *place)
    second = SigningKey.generate("ecdsa-p256")
    folder.signing_key.write_bytes(second.to_pem(read_passphrase(folder.passphrase)))
    CliRunner().invoke(site_app, ["revoke", "--dir", str(hospital)], input="MRN-0\n")
    assert run(site_app, "log", "export", tmp_path / "out", *place)[0] == 0
    history = decode(KeyHistory, (tmp_path / "out" / "keys.json").read_bytes())
    assert [record.key for record in history.keys] == [first.public, second.public]
    assert [record.valid_until is None for record in history.keys] == [False, True]
    (receipt,) = {entry.receipt for entry in read_revocations(hospital).patients.values()}
    assert run(site_app, "log", "statement", receipt, tmp_path / "revocation.json", *place)[0] == 0
    envelope = dsse.decode_envelope((tmp_path / "revocation.json").read_bytes())
    received = read_revocation(envelope.body).received
    assert dsse.verify(envelope, PAYLOAD_TYPE, history.signing_after(received), {"site": 1}) == ("site",)


def test_verify_without_keys_or_files_says_what_is_missing(tmp_path: Path, hospital: Path) -> None:
    result = CliRunner().invoke(site_app, ["verify", str(tmp_path)])
    assert result.exit_code == 2
    result = CliRunner().invoke(site_app, ["log", "show", "--dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "no database here" in result.output
