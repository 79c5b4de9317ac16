"""What patients say by FHIR is heard, in whatever form, by whatever name of theirs, and in whatever order."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from consent_forms import Form, forms, given
from hypothesis import HealthCheck, settings
from hypothesis import given as examples
from hypothesis import strategies as st
from sqlalchemy import text
from typer.testing import CliRunner

from client.cli import app
from client.intake.fhir.decisions.doubts import Counts, counts_of_all
from client.intake.fhir.endpoint.answers import receipt
from client.intake.fhir.intake import Intake, OtherPatientError
from client.intake.fhir.patients import PatientMap, PatientMapFile
from client.intake.fhir.resources import read_revoke_request
from client.intake.fhir.store.silence import count_silent
from client.intake.fhir.strict_json import UnusableResourceError
from client.revocations.look_alikes.doubtful import answer, doubts
from client.revocations.look_alikes.ending_holds import PersonDecision
from client.revocations.revocation import State
from client.revocations.workflow.readmission import readmit
from common.platform.actor import Actor
from common.platform.sql import transaction

Make = Callable[..., Intake]
LATER = "2026-11-01T20:00:00Z"
OTHER_SERVER = "https://other.example/fhir/Patient/1"
SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"


@pytest.fixture
def intake(make_intake: Make, tmp_path: Path) -> Intake:
    return make_intake(tmp_path / "site")


def states(intake: Intake, patient: str = "p-1") -> list[State]:
    return [found.state for found in intake.ledger.of_patient(patient)]


def revoke(intake: Intake, consent: str, patient: str = "p-1") -> Any:
    values = {"consent": f"Consent/{consent}", "patient": f"Patient/{patient}"}
    parameters = [{"name": name, "valueReference": {"reference": value}} for name, value in values.items()]
    return intake.revoke(read_revoke_request({"resourceType": "Parameters", "parameter": parameters}))


@pytest.mark.parametrize("scope", ["patient-privacy", "treatment", "adr"])
@pytest.mark.parametrize("status", ["active", "inactive", "entered-in-error"])
def test_a_request_to_revoke_stops_use_whatever_the_consent_is_about(
    intake: Intake, ehr: Any, scope: str, status: str
) -> None:
    about = {"scope": {"coding": [{"system": SCOPES, "code": scope}]}, "provision": {"type": "permit"}}
    intake.take(ehr.write({**ehr.consent("c-0", "p-1"), "dateTime": "2026-01-01"}))
    intake.take(ehr.write({**ehr.consent("c-1", "p-1", status), **about}))
    first = revoke(intake, "c-1")
    assert intake.ledger.is_stopped("p-1")
    assert states(intake) == [State.ON_HOLD]
    assert revoke(intake, "c-1").receipt == first.receipt
    newer = {**ehr.consent("c-1", "p-1"), **about, "id": "c-2", "dateTime": "2026-10-01"}
    intake.take(ehr.write(newer))
    again = {**ehr.write({**ehr.consent("c-1", "p-1"), **about}), "meta": {"versionId": "9", "lastUpdated": LATER}}
    intake.take(again)
    assert intake.ledger.is_stopped("p-1")


@pytest.mark.parametrize("policy", ["8", "22"])
def test_a_request_to_revoke_one_of_a_patients_research_consents_stops_use(
    intake: Intake, ehr: Any, policy: str
) -> None:
    system = "urn:oid:2.16.840.1.113883.3.1937.777.24.5.3"
    code = [{"coding": [{"system": system, "code": f"{system.removeprefix('urn:oid:')}.{policy}"}]}]
    intake.take(ehr.write({**ehr.consent("c-1", "p-1"), "provision": {"type": "permit", "code": code}}))
    revoke(intake, "c-1")
    assert states(intake) == [State.PENDING if policy == "8" else State.ON_HOLD]


def test_a_request_to_revoke_what_is_not_known_here_is_a_revocation(intake: Intake) -> None:
    revoke(intake, "never-seen")
    assert states(intake) == [State.PENDING]


def test_a_request_to_revoke_names_the_patient_by_any_of_their_names(make_intake: Make, tmp_path: Path) -> None:
    intake = make_intake(tmp_path / "site", PatientMap({"urn:mrn|M2": "p-2"}, {"p-2": ("urn:mrn|M2",)}))
    (consent,) = given("reference-and-identifier")
    intake.take({**consent, "policy": [{"uri": "urn:a:b"}], "provision": {"type": "permit"}})
    subject = {"reference": "Patient/9b4a702d", "identifier": {"system": "urn:mrn", "value": "M2"}}

    for patient in (subject, {"identifier": subject["identifier"]}):
        parameters = [
            {"name": "consent", "valueReference": {"reference": f"Consent/{consent['id']}"}},
            {"name": "patient", "valueReference": patient},
        ]
        intake.revoke(read_revoke_request({"resourceType": "Parameters", "parameter": parameters}))

    assert states(intake, "p-2") == [State.PENDING]
    with pytest.raises(OtherPatientError):
        revoke(intake, consent["id"], "p-3")


@pytest.mark.parametrize("known", ["reference", "identifier", "neither"])
def test_a_request_to_revoke_uses_any_name_that_the_consent_gives(intake: Intake, ehr: Any, known: str) -> None:
    reference = "Patient/p-2" if known == "reference" else "Patient/9b4a702d"
    number = "p-2" if known == "identifier" else "p-77"
    subject = {"reference": reference, "identifier": {"system": "urn:mrn", "value": number}}
    intake.take(ehr.write({**ehr.consent("c-1", "x"), "patient": subject}))
    for patient in ({"reference": reference}, {"identifier": subject["identifier"]}):
        parameters = [
            {"name": "consent", "valueReference": {"reference": "Consent/c-1"}},
            {"name": "patient", "valueReference": patient},
        ]
        intake.revoke(read_revoke_request({"resourceType": "Parameters", "parameter": parameters}))

    stopped = "p-2" if known != "neither" else "9b4a702d"
    assert intake.ledger.is_stopped(stopped)
    with pytest.raises(OtherPatientError):
        revoke(intake, "c-1", "p-3")


def test_a_consent_of_two_patients_can_be_revoked_by_either(intake: Intake, ehr: Any) -> None:
    subject = {"reference": "Patient/p-1", "identifier": {"value": "p-2"}}
    with pytest.raises(UnusableResourceError):
        intake.take(ehr.write({**ehr.consent("c-1", "x"), "patient": subject}))
    for patient in ("p-1", "p-2"):
        revoke(intake, "c-1", patient)
        assert intake.ledger.is_stopped(patient)


def test_names_that_a_consent_gave_stay_its_own_when_the_patient_becomes_known(
    make_intake: Make, tmp_path: Path, ehr: Any
) -> None:
    intake = make_intake(tmp_path / "site")
    subject = {"reference": "Patient/9b4a702d", "identifier": {"system": "urn:mrn", "value": "new-1"}}
    intake.take(ehr.write({**ehr.consent("c-1", "x"), "patient": subject}))
    (intake.ledger.folder.root / "site.json").write_text('{"name": "north", "subsets": {"new-1": "train"}}')
    intake.settle()
    assert not intake.ledger.is_stopped("new-1")
    revoke(intake, "c-1", "9b4a702d")
    assert states(intake, "new-1") == [State.PENDING]


@pytest.mark.parametrize(
    "place",
    ["https://ehr.example/fhir", "http://fhir.svc.cluster.local/fhir", "https://EHR.example:443/fhir"],
)
def test_an_absolute_reference_to_any_address_of_the_server_names_the_patient(
    make_intake: Make, tmp_path: Path, ehr: Any, place: str
) -> None:
    aliases = ("http://fhir.svc.cluster.local/fhir",)
    intake = replace(make_intake(tmp_path / "site"), base="https://ehr.example/fhir", aliases=aliases)
    intake.take(ehr.write({**ehr.consent("c-1", "x", "inactive"), "patient": {"reference": f"{place}/Patient/p-1"}}))
    assert intake.ledger.is_stopped("p-1")
    elsewhere = {"reference": "https://ehr.example/fhir2/Patient/p-2"}
    with pytest.raises(UnusableResourceError):
        intake.take(ehr.write({**ehr.consent("c-2", "x", "inactive"), "patient": elsewhere}))
    assert not intake.ledger.is_stopped("p-2")


@pytest.mark.parametrize("identifier", ["P-3", "p-03", "ｐ-3"])
@pytest.mark.parametrize("with_map", [False, True])
def test_an_unclear_consent_of_a_look_alike_holds_whoever_may_be_meant_until_it_is_clear(
    make_intake: Make, tmp_path: Path, ehr: Any, identifier: str, with_map: bool
) -> None:
    intake = make_intake(tmp_path / "site")
    if with_map:
        intake, _ = mapped(make_intake, tmp_path, "urn:mrn|p-3,p-3\n")
    patient = {"identifier": {"system": "urn:mrn", "value": identifier}}
    intake.take(ehr.write({**ehr.consent("c-1", "x", "entered-in-error"), "patient": patient}))
    assert intake.ledger.is_stopped("p-3")
    assert states(intake, "p-3") == [State.ON_HOLD]
    assert [item.consent for item in intake.steward_list()] == ["c-1"]
    intake.take(ehr.write({**ehr.consent("c-1", "x", "entered-in-error"), "patient": patient}))
    assert [one.state for one in intake.ledger.standing()] == [State.ON_HOLD, State.ON_HOLD]
    intake.take(ehr.write({**ehr.consent("c-1", "x"), "patient": patient}))
    assert not intake.ledger.is_stopped("p-3")
    assert doubts(intake.ledger) == ()


@pytest.mark.parametrize("meant", [False, True])
@pytest.mark.parametrize("with_map", [False, True])
def test_a_person_says_whom_an_unclear_consent_means_and_nobody_is_unlearned(
    make_intake: Make, tmp_path: Path, ehr: Any, meant: bool, with_map: bool
) -> None:
    intake = make_intake(tmp_path / "site")
    if with_map:
        intake, _ = mapped(make_intake, tmp_path, "urn:mrn|p-3,p-3\n")
    patient = {"identifier": {"system": "urn:mrn", "value": "P-3"}}
    intake.take(ehr.write({**ehr.consent("c-1", "x", "entered-in-error"), "patient": patient}))
    (doubt,) = doubts(intake.ledger)
    chosen = [one.number for one in doubt.candidates] if meant else []
    answer(intake.ledger, doubt.number, chosen, PersonDecision(Actor("lee", "user:1000:lee"), "asked the ward"))
    assert intake.ledger.is_stopped("p-3") == meant
    assert [item.consent for item in intake.steward_list()] == (["c-1"] if meant else [])
    assert State.PENDING not in states(intake, "p-3")
    intake.settle()
    assert intake.ledger.is_stopped("p-3") == meant
    intake.take(ehr.write({**ehr.consent("c-1", "x"), "patient": patient}))
    assert not intake.ledger.is_stopped("p-3")


def test_an_unclear_consent_holds_a_look_alike_who_joins_the_cohort_later(intake: Intake, ehr: Any) -> None:
    patient = {"identifier": {"system": "urn:mrn", "value": "NEW-1"}}
    intake.take(ehr.write({**ehr.consent("c-1", "x", "entered-in-error"), "patient": patient}))
    intake.settle()
    (intake.ledger.folder.root / "site.json").write_text('{"name": "north", "subsets": {"new-1": "train"}}')
    intake.settle()
    assert intake.ledger.is_stopped("new-1")


@pytest.mark.parametrize("identifier", ["P-3", "stranger"])
def test_a_request_to_revoke_a_consent_about_another_matter_stops_whoever_may_be_meant(
    intake: Intake, ehr: Any, identifier: str
) -> None:
    about = {"scope": {"coding": [{"system": SCOPES, "code": "treatment"}]}, "provision": {"type": "permit"}}
    intake.take(ehr.write({**ehr.consent("c-1", identifier), **about}))
    assert not intake.ledger.is_stopped("p-3")
    revoke(intake, "c-1", identifier)
    assert intake.ledger.is_stopped(identifier)
    assert intake.ledger.is_stopped("p-3") == (identifier == "P-3")


def test_a_version_that_its_server_writes_again_with_another_meta_is_one_version(intake: Intake, ehr: Any) -> None:
    first = ehr.write(ehr.consent("c-1", "p-1"))
    again = {**first, "meta": {**first["meta"], "lastUpdated": LATER, "tag": [{"code": "moved"}]}}
    kept = intake.take(first)
    assert intake.take(again) == replace(kept, is_new=False)
    assert states(intake) == []
    withdrawn = ehr.write(ehr.consent("c-1", "p-1", "inactive"))
    receipt_number = intake.take(withdrawn).receipt
    with intake.ledger.writing() as writing:
        form = ("ab" * 8, "cd" * 32)
        readmit(intake.ledger, writing, receipt_number, Actor("lee", "user:1000:lee"), "consented", form=form)
    intake.take({**withdrawn, "meta": {**withdrawn["meta"], "lastUpdated": LATER}})
    assert states(intake) == [State.READMITTED]


@pytest.mark.parametrize(
    ("status", "scope", "expected"),
    [
        ("inactive", "research", State.PENDING),
        ("rejected", "research", State.PENDING),
        ("inactive", "patient-privacy", State.ON_HOLD),
        ("rejected", "patient-privacy", State.ON_HOLD),
    ],
)
def test_a_consent_that_was_active_and_ends_stops_use(
    intake: Intake, ehr: Any, status: str, scope: str, expected: State
) -> None:
    about = {"scope": {"coding": [{"system": SCOPES, "code": scope}]}, "provision": {"type": "permit"}}
    intake.take(ehr.write({**ehr.consent("c-1", "p-1"), **about}))
    assert not intake.ledger.is_stopped("p-1")
    intake.take(ehr.write({**ehr.consent("c-1", "p-1", status), **about}))
    assert states(intake) == [expected]


MRN = {"system": "urn:mrn", "value": "M2"}


@pytest.mark.parametrize(
    "patient",
    [
        {"reference": "Patient/9b4a702d", "identifier": MRN},
        {"reference": "urn:uuid:7d6e0000-0000-4000-8000-000000000001", "identifier": MRN},
        {"reference": OTHER_SERVER, "identifier": MRN},
        {"reference": "#p", "identifier": MRN},
        {"reference": "#p"},
        {"identifier": MRN},
        {"reference": "Patient?identifier=urn:mrn|M2"},
        {"reference": "Patient?identifier=urn%3Amrn%7CM2"},
    ],
)
@pytest.mark.parametrize("way", ["take", "notice"])
def test_a_patient_is_found_by_the_identifier_beside_a_reference(
    make_intake: Make, tmp_path: Path, patient: Any, way: str
) -> None:
    intake = make_intake(tmp_path / "site", PatientMap({"urn:mrn|M2": "p-2"}, {"p-2": ("urn:mrn|M2",)}))
    (consent,) = given("reference-and-identifier")
    contained = [{"resourceType": "Patient", "id": "p", "identifier": [{"system": "urn:x", "value": "1"}, MRN]}]
    resource = {**consent, "patient": patient, "contained": contained}
    intake.take(resource) if way == "take" else intake.notice([resource])
    assert states(intake, "p-2") == [State.PENDING]


def test_without_a_map_whichever_name_is_in_the_cohort_counts(intake: Intake) -> None:
    (consent,) = given("reference-and-identifier")
    intake.take(
        {**consent, "patient": {"reference": "Patient/x-1", "identifier": {"system": "urn:mrn", "value": "p-3"}}}
    )
    assert states(intake, "p-3") == [State.PENDING]
    intake.take({**consent, "id": "b", "patient": {"reference": "Patient/p-4", "identifier": MRN}})
    assert states(intake, "p-4") == [State.PENDING]


def test_an_identifier_that_looks_like_a_patients_is_not_lost_behind_a_reference_that_nobody_knows(
    intake: Intake,
) -> None:
    (consent,) = given("reference-and-identifier")
    intake.take({**consent, "patient": {"reference": "Patient/x-1", "identifier": {"value": "P-3"}}})
    assert intake.ledger.is_stopped("p-3")


@pytest.mark.parametrize("way", ["push", "pull", "request"])
def test_two_patients_in_one_consent_are_both_on_hold_and_a_sender_is_told(intake: Intake, way: str) -> None:
    (consent,) = given("reference-and-identifier")
    both = {"reference": "Patient/p-4", "identifier": {"system": "urn:mrn", "value": "p-5"}}
    if way == "pull":
        intake.notice([{**consent, "patient": both}])
    else:
        values = {"consent": {"reference": "Consent/never-seen"}, "patient": both}
        parameters = [{"name": name, "valueReference": value} for name, value in values.items()]
        request = read_revoke_request({"resourceType": "Parameters", "parameter": parameters})
        with pytest.raises(UnusableResourceError, match=r"two patients .* is on hold") as refused:
            intake.take({**consent, "patient": both}) if way == "push" else intake.revoke(request)
        assert "p-4" not in str(refused.value)
    assert states(intake, "p-4") == states(intake, "p-5") == [State.ON_HOLD]
    treatment = {"coding": [{"system": SCOPES, "code": "treatment"}]}
    both = {"reference": "Patient/p-6", "identifier": {"system": "urn:mrn", "value": "p-7"}}
    intake.notice([{**consent, "id": "t", "patient": both, "scope": treatment, "policy": [{"uri": "urn:a:b"}]}])
    assert states(intake, "p-6") == states(intake, "p-7") == []


def test_a_withdrawal_waits_for_a_map_that_names_any_of_the_patients_names(make_intake: Make, tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text("fhir_patient,patient_id\nf-9,p-9\n")
    intake = replace(make_intake(tmp_path / "site"), patients=PatientMapFile(path).now)
    (consent,) = given("reference-and-identifier")
    kept = intake.take(consent)
    assert intake.store.tally().unmapped == 1
    path.write_text("fhir_patient,patient_id\nf-9,p-9\nurn:mrn|M2,p-2\n")
    assert intake.settle() == 1
    assert intake.ledger.of_patient("p-2")[0].receipt == kept.receipt
    assert (intake.store.tally().unmapped, intake.settle()) == (0, 0)
    intake.take({**consent, "id": "b", "patient": {"identifier": MRN}, "status": "draft"})
    assert states(intake, "p-2") == [State.PENDING]


def test_an_unreadable_consent_about_another_matter_is_taken_and_holds_nobody(intake: Intake) -> None:
    withdrawal, other = given("withdrawal-and-unreadable-other")
    intake.take({**other, "patient": {"reference": "Patient/p-2"}})
    assert states(intake, "p-2") == []
    with pytest.raises(UnusableResourceError, match=r"cannot be read.* is on hold"):
        intake.take({**other, "id": "u", "scope": withdrawal["scope"], "patient": {"reference": "Patient/p-3"}})
    assert states(intake, "p-3") == [State.ON_HOLD]
    intake.notice([withdrawal, other])
    assert states(intake) == [State.PENDING]


def test_status_and_log_count_consents_that_say_nothing_by_what_they_are_about(
    intake: Intake, ehr: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fedforget.fhir")
    treatment = {"scope": {"coding": [{"system": SCOPES, "code": "treatment"}]}, "provision": {"type": "permit"}}
    for number in (1, 2):
        intake.take(ehr.write({**ehr.consent(f"t-{number}", f"p-{number}"), **treatment}))
    intake.take(ehr.write(ehr.consent("d-1", "p-1", "draft")))
    intake.take(ehr.write(ehr.consent("r-1", "p-1")))
    expected = {"about treatment or another matter": 2, "a draft or a proposal": 1}
    assert count_silent(intake.store.engine) == expected
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("consents that say nothing of this use: 1 about treatment or another matter") == 2
    assert not any("p-1" in line or "t-1" in line for line in lines)
    folder = intake.ledger.folder
    folder.settings_file.write_text(
        f'name = "north"\ngateway = "a:1"\ncoordination = "a:2"\nca_fingerprint = "{"0" * 64}"\n'
    )
    folder.fhir_jwks.parent.mkdir(exist_ok=True)
    folder.fhir_jwks.write_text("{}")

    for more in ([], ["--json"]):
        shown = CliRunner().invoke(app, ["fhir", "status", "--dir", str(folder.root), *more])
        assert shown.exit_code == 0, shown.output
        assert "about treatment or another matter" in shown.output

    assert json.loads(shown.stdout)["silent"] == expected


def test_what_an_earlier_version_kept_less_of_is_read_again_when_it_comes_again(intake: Intake) -> None:
    (consent,) = given("r5-policy-basis-url")
    consent = {**consent, "meta": {"versionId": "1", "lastUpdated": "2025-02-01T10:00:00Z"}}
    shorter = {**consent, "policyBasis": {"url": None}}
    kept = intake.notice([consent])
    with transaction(intake.store.engine) as session:
        session.execute(text("update consents set document = :document"), {"document": json.dumps(shorter)})
        session.execute(text("update consent_decisions set answer = 'permit'"))

    assert intake.notice([consent]) == tuple(replace(one, is_new=False) for one in kept)
    assert intake.store.tally().deny == 1


@pytest.mark.parametrize("identifier", ["P-3", "p-03", "p–3", "MRN:p-3", "ｐ-3", "p_3", '"p-3"'])
@pytest.mark.parametrize("way", ["take", "notice"])
def test_a_withdrawal_of_a_look_alike_stops_use_and_a_person_is_asked_who_is_meant(
    intake: Intake, ehr: Any, identifier: str, way: str
) -> None:
    patient = {"identifier": {"system": "urn:mrn", "value": identifier}}
    resource = ehr.write({**ehr.consent("c-1", "x", "inactive"), "patient": patient})
    intake.take(resource) if way == "take" else intake.notice([resource])
    assert intake.ledger.is_stopped("p-3")
    (doubt,) = doubts(intake.ledger)
    assert [one.pseudonym for one in doubt.candidates] == [intake.ledger.pseudonyms.of("p-3")]
    assert states(intake, "p-3") == [State.ON_HOLD]
    assert asdict(counts_of_all(intake.ledger)) == {"known": 0, "unknown": 0, "doubtful": 1}


def mapped(make: Make, folder: Path, rows: str) -> tuple[Intake, Path]:
    path = folder / "map.csv"
    path.write_text(f"fhir_patient,patient_id\n{rows}")
    return replace(make(folder / "site"), patients=PatientMapFile(path).now), path


@pytest.mark.parametrize(
    ("system", "value"),
    [
        ("urn:mrn", "123"),
        ("urn:mrn", "0000123"),
        ("urn:mrn", "000123.0"),
        ("urn:mrn", "MRN 000123"),
        ("URN:MRN", "000123"),
        ("urn:mrn", "٠٠٠١٢٣"),
        ("urn:mrn", "1,23E+02"),
    ],
)
def test_a_withdrawal_of_a_name_that_looks_like_one_of_the_map_stops_use_until_a_person_says_who_is_meant(
    make_intake: Make, tmp_path: Path, ehr: Any, system: str, value: str
) -> None:
    intake, _ = mapped(make_intake, tmp_path, "urn:mrn|000123,p-2\nurn:case|123,p-3\n")
    patient = {"identifier": {"system": system, "value": value}}
    kept = intake.take(ehr.write({**ehr.consent("c-1", "x", "inactive"), "patient": patient}))
    assert states(intake, "p-2") == [State.ON_HOLD]
    assert states(intake, "p-3") == []
    (doubt,) = doubts(intake.ledger)
    assert doubt.revocation.receipt == kept.receipt
    assert intake.counts(kept) == Counts(doubtful=1)
    intake.settle()
    assert states(intake, "p-2") == [State.ON_HOLD]

    (candidate,) = doubt.candidates
    answer(intake.ledger, doubt.number, [candidate.number], PersonDecision(Actor("Lee"), "the same patient"))
    assert State.PENDING in states(intake, "p-2")
    assert doubts(intake.ledger) == ()


def test_a_name_of_the_map_is_found_however_the_map_spells_its_letters(
    make_intake: Make, tmp_path: Path, ehr: Any
) -> None:
    intake, _ = mapped(make_intake, tmp_path, "urn:mrn| Mu\u0308ller-1,p-2\n")
    patient = {"identifier": {"system": "urn:mrn", "value": "Müller-1 "}}
    intake.take(ehr.write({**ehr.consent("c-1", "x", "inactive"), "patient": patient}))
    assert states(intake, "p-2") == [State.PENDING]


def test_a_longer_map_holds_those_whose_names_look_alike_and_revokes_whom_it_names(
    make_intake: Make, tmp_path: Path, ehr: Any
) -> None:
    intake, path = mapped(make_intake, tmp_path, "urn:mrn|7,p-1\n")
    patient = {"identifier": {"system": "urn:mrn", "value": "123"}}
    intake.take(ehr.write({**ehr.consent("c-1", "x", "inactive"), "patient": patient}))
    assert doubts(intake.ledger) == ()
    path.write_text("fhir_patient,patient_id\nurn:mrn|7,p-1\nurn:mrn|000123,p-2\n")
    intake.settle()
    assert states(intake, "p-2") == [State.ON_HOLD]
    path.write_text("fhir_patient,patient_id\nurn:mrn|7,p-1\nurn:mrn|000123,p-2\nurn:mrn|123,p-4\n")
    intake.settle()
    assert (states(intake, "p-2"), states(intake, "p-4")) == ([State.ON_HOLD], [State.PENDING])


def test_a_number_in_scientific_notation_is_kept_holds_whoever_may_be_meant_and_is_shown(
    intake: Intake, ehr: Any
) -> None:
    file = intake.ledger.folder.root / "site.json"
    site = json.loads(file.read_text())
    numbers = {"123456789012": "train", "123460000001": "train", "998877665544": "train"}
    file.write_text(json.dumps({**site, "subsets": {**site["subsets"], **numbers}}))
    for number, value in enumerate(("1.2346E+11", "5,5E+11")):
        patient = {"identifier": {"system": "urn:mrn", "value": value}}
        intake.take(ehr.write({**ehr.consent(f"c-{number}", "x", "inactive"), "patient": patient}))
    (doubt,) = doubts(intake.ledger)
    held = {one.pseudonym for one in doubt.candidates}
    assert held == {intake.ledger.pseudonyms.of(one) for one in ("123456789012", "123460000001")}
    assert not intake.ledger.is_stopped("998877665544")
    assert counts_of_all(intake.ledger) == Counts(unknown=1, doubtful=1)


def test_a_sender_is_told_the_counts_of_a_withdrawal_and_nothing_of_other_consents(intake: Intake, ehr: Any) -> None:
    permission = intake.take(ehr.write(ehr.consent("c-1", "p-1")))
    assert intake.counts(permission) is None
    withdrawal = intake.take(ehr.write(ehr.consent("c-1", "p-1", "inactive")))
    assert intake.counts(withdrawal) == Counts(known=1)
    stranger = intake.take(ehr.write(ehr.consent("c-2", "stranger", "inactive")))
    assert intake.counts(stranger) == Counts(unknown=1)
    assert intake.counts(revoke(intake, "c-3", "p-4")) == Counts(known=1)
    later = intake.take(ehr.write(ehr.consent("c-1", "p-1", "draft")))
    assert intake.counts(later) is None
    names = [parameter["name"] for parameter in receipt(withdrawal, intake.counts(withdrawal))["parameter"]]
    assert names == ["receipt", "received", "known", "unknown", "doubtful"]


def test_a_period_that_ends_holds_and_a_denial_that_begins_revokes_without_any_message(
    intake: Intake, ehr: Any
) -> None:
    code = ehr.consent("x", "x")["provision"]["code"]
    ends = {"type": "permit", "code": code, "period": {"end": "2026-12-31"}}
    begins = {"type": "deny", "code": code, "period": {"start": "2027-01-01"}}
    intake.take(ehr.write({**ehr.consent("c-1", "p-1"), "provision": ends}))
    intake.take(ehr.write({**ehr.consent("c-2", "p-2"), "provision": {"type": "permit", "provision": [begins]}}))
    intake.take(ehr.write(ehr.consent("c-3", "p-3")))
    assert (intake.weigh_again(), intake.ledger.stopped()) == (0, frozenset())
    intake.clock.now += timedelta(days=90)  # type: ignore[attr-defined]  # the clock of the tests
    assert intake.weigh_again() == 1
    assert (states(intake, "p-1"), states(intake, "p-2"), states(intake, "p-3")) == (
        [State.ON_HOLD], [State.PENDING], [],
    )  # fmt: skip
    assert intake.ledger.of_patient("p-2")[0].received == intake.clock()
    assert intake.weigh_again() == 0


def test_a_hold_that_turns_into_a_denial_is_a_revocation_and_no_release(intake: Intake, ehr: Any) -> None:
    begins = {"type": "deny", "period": {"start": "2027-01-01"}}
    consent = {**ehr.consent("c-1", "p-1"), "provision": begins, "policy": [{"uri": "urn:policy"}]}
    intake.take(ehr.write(consent))
    assert states(intake) == [State.ON_HOLD]
    intake.clock.now += timedelta(days=90)  # type: ignore[attr-defined]  # the clock of the tests

    intake.settle()

    assert State.PENDING in states(intake)
    assert intake.ledger.is_stopped("p-1")


def test_a_second_request_to_revoke_stops_a_patient_who_was_readmitted(intake: Intake, ehr: Any) -> None:
    intake.take(ehr.write(ehr.consent("c-1", "p-1")))
    revoke(intake, "c-1")
    (first,) = intake.ledger.of_patient("p-1")
    with intake.ledger.writing() as writing:
        readmit(intake.ledger, writing, first.receipt, Actor("lee"), "signed again", form=("form", "0" * 64))
    intake.clock.now += timedelta(hours=1)  # type: ignore[attr-defined]  # the clock of the tests
    ehr.now = intake.clock.now  # type: ignore[attr-defined]
    signed = intake.clock().isoformat()
    intake.take(ehr.write(ehr.consent("c-1", "p-1", dateTime=signed)))
    assert not intake.ledger.is_stopped("p-1")

    intake.clock.now += timedelta(hours=1)  # type: ignore[attr-defined]  # the clock of the tests
    revoke(intake, "c-1")

    assert intake.ledger.is_stopped("p-1")


DATED = [form for form in forms() if not form.purpose]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@examples(one=st.sampled_from(DATED), other=st.sampled_from(DATED), shuffle=st.randoms(use_true_random=False))
def test_pushed_one_by_one_in_any_order_or_pulled_at_once_the_answer_is_the_same(
    make_intake: Make, one: Form, other: Form, shuffle: Any
) -> None:
    consents = [
        {**consent, "id": f"c-{number}-{index}", "meta": {"versionId": "1", "lastUpdated": "2026-10-01T10:00:00Z"}}
        for number, form in enumerate((one, other))
        for index, consent in enumerate(form.consents)
    ]
    consents = [{**c, ("subject" if "subject" in c else "patient"): {"reference": "Patient/p-1"}} for c in consents]
    found = []

    for _ in range(2):
        folder = Path(tempfile.mkdtemp())
        pulled = make_intake(folder / "pulled")
        pushed = make_intake(folder / "pushed")
        pulled.notice(consents)
        shuffle.shuffle(consents)
        for consent in consents:
            pushed.notice([consent])
        found += [(i.store.tally().permit, i.store.tally().deny, i.store.tally().unknown) for i in (pulled, pushed)]
        assert pushed.ledger.is_stopped("p-1") or not pulled.ledger.is_stopped("p-1")
        pulled.ledger.engine.dispose()
        pushed.ledger.engine.dispose()
        shutil.rmtree(folder)

    assert len({*found}) == 1
