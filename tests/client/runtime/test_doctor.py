"""A hospital's doctor, at a hospital that has joined and in which one thing is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from client.cli import app
from client.cohort.site_files import read_site, write_site
from client.database import opened, pending_migration
from client.revocations.opening import open_ledger
from client.revocations.tombstones.tombstone import Tombstone
from client.revocations.vault import Vault
from client.runtime.doctor import examine
from client.settings import SiteFolder
from common.learning.data.splits import split_cohort
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Cohort
from common.platform.checks import Check
from common.platform.processes.up_lock import only_one
from common.platform.sql import transaction

NOW = datetime.now(UTC)
NOBODY_LISTENS = {"gateway port", "coordination port"}


@pytest.fixture
def folder(
    tmp_path: Path, card: ModelCard, cohort_of: Callable[..., Cohort], enrol: Callable[[Path, str], Path]
) -> SiteFolder:
    """A hospital that has joined; at its coordinator's ports nobody listens."""
    cohort = cohort_of(12, studies=1)
    split = split_cohort(cohort, card.data.split, seed=0)
    (tmp_path / "simulated").mkdir()
    write_site(
        tmp_path / "simulated", cohort, split, card, name="north", seed=0, device="cpu", cache=tmp_path / "cache"
    )
    site = SiteFolder(enrol(tmp_path / "simulated", "north"))
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        gateway, coordination, supernode, monitor = (listener.getsockname()[1] for listener in listeners)

    text = re.sub(r"^gateway = .*$", f'gateway = "localhost:{gateway}"', site.settings_file.read_text(), flags=re.M)
    text = re.sub(r"^coordination = .*$", f'coordination = "localhost:{coordination}"', text, flags=re.M)
    ports = f'device = "cpu"\n[ports]\nsupernode = {supernode}\nmonitor = {monitor}\n'
    site.settings_file.write_text(f"{text}\n{ports}")

    return site


def failures(folder: SiteFolder, now: datetime = NOW) -> dict[str, Check]:
    return {check.name: check for check in examine(folder, now) if check.result == "fail"}


def test_a_hospital_whose_coordinator_is_away_fails_at_its_ports_only(folder: SiteFolder) -> None:
    assert set(failures(folder)) == NOBODY_LISTENS


def test_data_are_counted_and_never_named(folder: SiteFolder) -> None:
    site = read_site(folder.root)
    Path(site.studies[0].image).unlink()
    found = examine(folder, NOW)
    assert next(check for check in found if check.name == "data").detail == "12 patients, 12 studies, 11 of 12 images"
    told = str(found)
    assert not any(secret in told for row in site.studies for secret in (row.image, row.report, f"'{row.patient}'"))


def test_a_hospital_without_data_or_with_damaged_revocations_fails(folder: SiteFolder) -> None:
    (folder.root / "site.json").write_text('{"patient": "10003412"}')
    folder.tombstones.write_text("10003412\n")
    found = failures(folder)
    assert set(found) == NOBODY_LISTENS | {"data", "revocations"}
    assert "10003412" not in str(found)


def test_a_doctor_reads_while_others_write_and_changes_nothing(folder: SiteFolder) -> None:
    with open_ledger(folder) as ledger:
        vault = Vault(folder.vault, os.urandom)
        with ledger.writing():
            # As in the middle of a registration: the form is in the vault, the stop is on the disk, no row yet.
            vault.keep("0123456789abcdef", b"%PDF-1.7 a form")
            ledger.stones.append([Tombstone("stop", "0" * 64, "0123456789abcdef", NOW)])
            looking = ThreadPoolExecutor(1).submit(examine, folder, NOW)
            try:
                found = {check.name: check for check in looking.result(10)}
            except TimeoutError:
                pytest.fail("the doctor waits for the ledger's locks")
        assert found["revocations"].result == "ok"
        assert {name for name, check in found.items() if check.result == "fail"} == NOBODY_LISTENS
        assert vault.opened("0123456789abcdef") is not None
        assert ledger.standing() == ()


def test_a_doctor_leaves_the_schema_to_up(folder: SiteFolder) -> None:
    with opened(folder.database_url) as engine, transaction(engine) as session:
        session.execute(text("update alembic_version set version_num = '0001'"))
    found = {check.name: check for check in examine(folder, NOW)}
    assert found["database"].detail == "schema 0001"
    assert "revocations" not in found
    with opened(folder.database_url) as engine:
        assert pending_migration(engine) == "0001"


def test_a_hospital_that_has_not_joined_is_told_to_join(folder: SiteFolder) -> None:
    shutil.rmtree(folder.ca_certificate.parent)
    found = failures(folder)
    assert set(found) == NOBODY_LISTENS | {"membership"}
    assert found["membership"].remedy == "fedforget-site join BUNDLE"


def test_another_authority_than_the_one_compared_by_telephone_fails(folder: SiteFolder) -> None:
    text = folder.settings_file.read_text()
    fingerprint = folder.settings().ca_fingerprint
    folder.settings_file.write_text(text.replace(fingerprint, "-".join(["0000"] * 16)))
    assert set(failures(folder)) == NOBODY_LISTENS | {"membership"}


def test_an_expired_certificate_fails_twice_and_warns_a_month_before(folder: SiteFolder) -> None:
    found = failures(folder, NOW + timedelta(days=366))
    assert set(found) == NOBODY_LISTENS | {"membership", "site certificate"}
    assert found["site certificate"].remedy.startswith("fedforget-site rotate")
    soon = {check.name: check for check in examine(folder, NOW + timedelta(days=350))}
    assert soon["site certificate"].result == "warn"
    assert soon["site certificate"].remedy.startswith("it renews itself")


def test_it_says_that_no_up_runs_here_and_what_to_type(folder: SiteFolder) -> None:
    (row,) = [check for check in examine(folder, NOW) if check.name == "up"]
    assert (row.result, row.remedy) == ("warn", f"start it: fedforget-site up --dir {folder.root}")


def test_a_hospital_that_the_coordinator_has_not_answered_lately_fails(folder: SiteFolder) -> None:
    name = "last heartbeat that the coordinator answered"
    with only_one(folder.root):
        assert name in failures(folder)
        folder.heard.touch()
        assert name not in failures(folder)
        old = time.time() - 181
        os.utime(folder.heard, (old, old))
        assert name in failures(folder)


def test_a_readable_node_key_and_a_missing_database_fail(folder: SiteFolder) -> None:
    folder.node_key.chmod(0o640)
    folder.database.unlink()
    assert set(failures(folder)) == NOBODY_LISTENS | {"secret keys/node", "database"}


def test_a_name_that_does_not_resolve_fails_before_its_port(folder: SiteFolder) -> None:
    text = re.sub(r"localhost:(\d+)", r"no-such-host.invalid:\1", folder.settings_file.read_text())
    folder.settings_file.write_text(text)
    assert set(failures(folder)) == {"gateway name", "coordination name"}


def test_a_port_of_ours_that_another_program_holds_fails(folder: SiteFolder) -> None:
    with socket.create_server(("127.0.0.1", folder.settings().ports.supernode)) as listener:
        found = failures(folder)
    assert set(found) == NOBODY_LISTENS | {f"port {folder.settings().ports.supernode} (supernode)"}
    assert listener.fileno() == -1


def test_the_command_ends_with_1_and_prints_json(folder: SiteFolder) -> None:
    run = CliRunner().invoke(app, ["doctor", "--dir", str(folder.root), "--json"])
    assert run.exit_code == 1
    assert {row["name"] for row in json.loads(run.stdout) if row["result"] == "fail"} == NOBODY_LISTENS
