"""The coordinator's signing key is replaced whole or not at all, and every hospital gets a bundle that fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from client.membership.enrolment import check_bundle
from client.settings import SiteFolder
from common.evidence.keys import SigningKey
from common.files import write_private
from common.platform.keys.private_keys import load_signing_key
from common.platform.processes.up_lock import only_one
from common.platform.sql import open_database, transaction
from server.campaign.context import open_house
from server.cli import app
from server.database import EventRow
from server.settings import ServerFolder


@pytest.fixture
def hospitals(coordinator: ServerFolder, site_of: Callable[[str], Path]) -> dict[str, SiteFolder]:
    return {name: SiteFolder(site_of(name)) for name in ("north", "south")}


@pytest.fixture
def site_of(tmp_path: Path, enrol: Callable[[Path, str], Path]) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        plain = tmp_path / "plain"
        plain.mkdir(exist_ok=True)
        (plain / "site.json").write_text("{}")
        return enrol(plain, name)

    return make


def rotate(coordinator: ServerFolder, out: Path) -> tuple[int, Any]:
    result = CliRunner().invoke(app, ["rotate", "--out", str(out), "--dir", str(coordinator.root), "--json"])
    return result.exit_code, json.loads(result.stdout) if result.stdout.startswith("{") else result.output


def key_of(coordinator: ServerFolder) -> SigningKey:
    return load_signing_key(coordinator.signing_key, coordinator.passphrase)


def rotations(coordinator: ServerFolder) -> list[str]:
    engine = open_database(coordinator.database_url(coordinator.settings()))
    with transaction(engine) as session:
        found = [*session.scalars(select(EventRow.detail).where(EventRow.kind == "key-rotated"))]
    engine.dispose()
    return found


def test_every_hospital_gets_a_bundle_with_the_new_key(
    coordinator: ServerFolder, hospitals: dict[str, SiteFolder], tmp_path: Path
) -> None:
    old = key_of(coordinator).public
    code, done = rotate(coordinator, tmp_path / "bundles")
    new = key_of(coordinator).public
    assert (code, done["old"], done["new"], done["sites"]) == (0, old.keyid, new.keyid, ["north", "south"])

    for name, folder in hospitals.items():
        data = (tmp_path / "bundles" / f"{name}-join.json").read_bytes()
        checked = check_bundle(data, folder.settings(), datetime.now(UTC))
        assert checked.coordinator == new
        assert checked.bundle.certificate.encode() == folder.certificate.read_bytes()

    assert rotations(coordinator) == [f"signing key {new.keyid} takes over from {old.keyid}"]
    assert not coordinator.signing_key.with_name("signing-next.pem").exists()


def test_an_interrupted_rotation_goes_on_with_the_key_that_it_made(
    coordinator: ServerFolder, hospitals: dict[str, SiteFolder], tmp_path: Path
) -> None:
    made = SigningKey.generate()
    old = key_of(coordinator)
    passphrase = coordinator.passphrase.read_bytes().rstrip()
    write_private(coordinator.signing_key.with_name("signing-next.pem"), made.to_pem(passphrase))
    (tmp_path / "bundles").write_text("a file where the folder should be")
    assert rotate(coordinator, tmp_path / "bundles")[0] == 2
    assert key_of(coordinator).public == old.public
    assert rotate(coordinator, tmp_path / "elsewhere")[0] == 0
    assert key_of(coordinator).public == made.public
    assert len(rotations(coordinator)) == 1


def test_the_key_does_not_change_while_it_is_in_use(coordinator: ServerFolder, tmp_path: Path) -> None:
    old = key_of(coordinator).public
    with only_one(coordinator.root):
        assert rotate(coordinator, tmp_path / "bundles")[0] == 4
    house = open_house(coordinator.root)
    house.store.plan("training", house.terms.model_dump(mode="json"), parent=None, due=None, reason="test")
    house.engine.dispose()
    code, output = rotate(coordinator, tmp_path / "bundles")
    assert (code, "a campaign is open" in output) == (4, True)
    assert key_of(coordinator).public == old
    assert not (tmp_path / "bundles").exists()
