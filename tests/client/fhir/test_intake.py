"""From a Consent to a revocation: merged patients, maps that come later, interruptions, later imports."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from client.consent.ledger import Ledger
from client.consent.overview import read_revocations
from client.data_import import SiteOptions, import_data
from client.fhir import intake as room
from client.fhir.intake import Intake
from client.fhir.patients import PatientMap, PatientMapFile
from client.fhir.puller import Puller
from common.data.manifest import Manifest
from common.model.checkpoint import ModelCard

Make = Callable[..., Intake]


def revoked(intake: Intake) -> set[str]:
    return set(read_revocations(intake.ledger.folder.root).patients)


def test_a_withdrawal_waits_for_a_map_that_names_the_patient(make_intake: Make, tmp_path: Path, ehr: Any) -> None:
    path = tmp_path / "map.csv"
    path.write_text("fhir_patient,patient_id\nf-2,p-2\n")
    intake = replace(make_intake(tmp_path / "site"), patients=PatientMapFile(path).now)
    kept = intake.take(ehr.consent("c-1", "f-1", "inactive"))
    assert revoked(intake) == set()
    assert (intake.steward_list(), intake.store.tally().unmapped) == ((), 1)
    path.write_text("fhir_patient,patient_id\nf-2,p-2\nf-1,p-1\n")
    assert intake.settle() == 1
    assert read_revocations(intake.ledger.folder.root).patients["p-1"].receipt == kept.receipt
    assert (intake.settle(), intake.store.tally().unmapped) == (0, 0)


def test_consents_of_merged_records_are_weighed_together(make_intake: Make, tmp_path: Path, ehr: Any) -> None:
    keys = {"p-1": ("f-1", "f-2")}
    patients = PatientMap({"f-1": "p-1", "f-2": "p-1"}, keys)
    intake = make_intake(tmp_path / "site", patients)
    intake.take({**ehr.consent("c-1", "f-1"), "dateTime": "2024-05-01T10:00:00Z"})
    # Alone it would be a refusal; the same person's newer consent outweighs it.
    intake.take({**ehr.consent("c-2", "f-2", "rejected"), "dateTime": "2023-01-01T10:00:00Z"})
    assert revoked(intake) == set()
    clock: Any = intake.clock
    clock.now += timedelta(minutes=1)
    intake.take({**ehr.consent("c-2", "f-2", "inactive"), "dateTime": "2024-06-01T10:00:00Z"})
    assert revoked(intake) == {"p-1"}


def test_what_was_kept_before_a_crash_is_acted_on_after_it(
    make_intake: Make, tmp_path: Path, ehr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = make_intake(tmp_path / "site")

    def crash(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add", crash)
        with pytest.raises(SystemExit):
            intake.take(ehr.consent("c-1", "p-1", "inactive"))
    assert revoked(intake) == set()
    again = make_intake(tmp_path / "site")
    Puller(again, None, 300.0, timedelta(), 2, random.Random(0)).step()
    assert revoked(again) == {"p-1"}


def test_a_revocation_by_the_operation_holds_though_the_servers_clock_is_ahead(
    make_intake: Make, tmp_path: Path, ehr: Any
) -> None:
    intake = make_intake(tmp_path / "site")
    ahead = (intake.clock() + timedelta(hours=2)).isoformat()
    intake.take({**ehr.consent("c-1", "p-1"), "meta": {"versionId": "4", "lastUpdated": ahead}})
    kept = intake.revoke(room.RevokeRequest("c-1", ("p-1",)))
    assert kept.version == "4.revoked"
    assert revoked(intake) == {"p-1"}
    assert intake.store.tally().deny == 1


def test_who_revoked_before_any_import_is_left_out_of_it(
    make_intake: Make, tmp_path: Path, ehr: Any, cohort_of: Callable[..., Any], card: ModelCard
) -> None:
    intake = make_intake(tmp_path / "site")
    (intake.ledger.folder.root / "site.json").unlink()
    cohort = cohort_of(12)
    intake.take(ehr.consent("c-1", cohort.patients[0], "inactive"))
    manifest = Manifest(cohort, None, tmp_path / "manifest.csv", tuple(range(2, len(cohort) + 2)))
    report = import_data(
        intake.ledger.folder.root, manifest, card, SiteOptions("north", 0, distinct_ids=True), lambda *_: None
    )
    assert (report.patients, report.revoked) == (11, 1)
