"""From a Consent to a revocation: merged patients, maps that come later, interruptions, later imports."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from client.cohort.imports.data_import import SiteOptions, import_data
from client.intake.fhir import resources as room
from client.intake.fhir.decisions.kinds import kind_of
from client.intake.fhir.intake import Intake
from client.intake.fhir.patients import PatientMap, PatientMapFile
from client.intake.fhir.pull.puller import Puller
from client.revocations.ledger import Ledger
from client.revocations.revocation import Request, Source, State
from client.revocations.tombstones.overview import read_revocations
from client.revocations.workflow.decisions import refuse
from client.revocations.workflow.readmission import readmit
from common.learning.data.tables.manifest import Manifest
from common.learning.model.checkpoint import ModelCard
from common.platform.actor import Actor

TEMPLATE_TYPES = "http://fhir.de/ConsentManagement/CodeSystem/TemplateType"
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


def test_who_was_readmitted_and_withdraws_again_is_heard(make_intake: Make, tmp_path: Path, ehr: Any) -> None:
    intake = make_intake(tmp_path / "site")
    lee = Actor("lee", "user:1000:lee")
    clock: Any = intake.clock
    first = intake.take(ehr.consent("c-1", "p-1", "inactive"))
    with intake.ledger.writing() as writing:
        readmit(intake.ledger, writing, first.receipt, lee, "consented anew", form=("ab" * 8, "cd" * 32))
    assert not intake.ledger.is_stopped("p-1")
    for number, (status, stopped) in enumerate((("active", False), ("inactive", True)), start=1):
        clock.now += timedelta(days=number)
        signed = clock.now.isoformat()
        said = {"versionId": str(10 + number), "lastUpdated": signed}
        last = intake.take({**ehr.consent("c-2", "p-1", status), "meta": said, "dateTime": signed})
        assert intake.ledger.is_stopped("p-1") == stopped

    assert {s.receipt for s in intake.ledger.of_patient("p-1")} == {first.receipt, last.receipt}


@pytest.mark.parametrize("after", [False, True])
def test_a_withdrawal_that_a_list_covered_is_heard_when_the_list_is_refused(
    make_intake: Make, tmp_path: Path, ehr: Any, after: bool
) -> None:
    intake = make_intake(tmp_path / "site")
    listed = Request(Source("list", "l-1"), "l-1", intake.clock())
    intake.ledger.record(listed, ["p-1"])
    withdrawn = intake.take(ehr.write(ehr.consent("c-1", "p-1", "inactive")))
    refuse(intake.ledger, "l-1", Actor("lee", "user:1000:lee"), "another patient was meant")
    if after:
        refuse(intake.ledger, withdrawn.receipt, Actor("lee", "user:1000:lee"), "a slip of the pen")
        assert not intake.ledger.is_stopped("p-1")
        intake.take(ehr.write(ehr.consent("c-1", "p-1", "inactive")))
    assert intake.ledger.is_stopped("p-1")


def test_of_two_consents_that_are_withdrawn_the_second_counts_when_the_first_is_refused(
    make_intake: Make, tmp_path: Path, ehr: Any
) -> None:
    intake = make_intake(tmp_path / "site")
    first = intake.take(ehr.write(ehr.consent("c-1", "p-1", "inactive")))
    second = intake.take(ehr.write(ehr.consent("c-2", "p-1", "inactive")))
    intake.take(ehr.write(ehr.consent("c-3", "p-1")))
    refuse(intake.ledger, first.receipt, Actor("lee", "user:1000:lee"), "another patient was meant")
    assert [s.receipt for s in intake.ledger.of_patient("p-1")] == [first.receipt, second.receipt]
    assert intake.ledger.is_stopped("p-1")
    refuse(intake.ledger, second.receipt, Actor("lee", "user:1000:lee"), "another patient was meant")
    # The consents themselves still contradict each other: one permits and two of the same time deny.
    (doubt,) = [s for s in intake.ledger.of_patient("p-1") if s.state is State.ON_HOLD]
    assert intake.ledger.is_stopped("p-1")
    refuse(intake.ledger, doubt.receipt, Actor("lee", "user:1000:lee"), "the permission counts")
    assert not intake.ledger.is_stopped("p-1")


def test_an_opt_out_by_fhir_is_one_and_every_other_withdrawal_is_of_consent(
    make_intake: Make, tmp_path: Path, ehr: Any
) -> None:
    coding = {"system": TEMPLATE_TYPES, "code": "CONSENT-OPT-OUT"}
    assert kind_of({"category": [{"coding": [coding]}]}) == "opt-out"
    assert kind_of({"category": [{"coding": [{**coding, "system": "urn:other"}]}]}) == "withdrawal"
    assert kind_of({"policyRule": {"coding": [{"code": "OPTOUT"}]}}) == "withdrawal"
    intake = make_intake(tmp_path / "site")
    intake.take(ehr.consent("c-2", "p-2", "inactive"))
    assert [(s.kind, s.legal_basis) for s in intake.ledger.of_patient("p-2")] == [("withdrawal", "GDPR 7(3)")]
