"""What is kept of a Consent, and what the rule says to it then."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from client.consent.broad_consent import USE_FOR_RESEARCH
from client.consent.documents import Coding
from client.consent.rule import permitted
from client.intake.fhir.patients import PatientMap, read_patient_map
from client.intake.fhir.pull.puller import is_night_due
from client.intake.fhir.resources import read_incoming, weighed
from client.revocations.tombstones.pseudonyms import Pseudonyms
from common.errors import InputError, ManifestError

CASES = Path(__file__).parents[2] / "consent" / "cases"
NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)


def cases() -> Any:
    for path in sorted(CASES.glob("*.json")):
        for case in json.loads(path.read_text(encoding="utf-8")):
            yield pytest.param(case, id=f"{path.stem}: {case['title']}")


@pytest.mark.parametrize("case", list(cases()))
def test_the_rule_says_the_same_to_what_is_kept_as_to_the_whole(case: dict[str, Any]) -> None:
    at = datetime.fromisoformat(case["at"]) if "at" in case else NOW
    purpose = Coding(**case["purpose"]) if "purpose" in case else None
    whole = permitted(case["consents"], USE_FOR_RESEARCH, purpose, at)
    kept = [weighed(resource) for resource in case["consents"]]
    assert permitted(kept, USE_FOR_RESEARCH, purpose, at) == whole
    assert "Patient/" not in json.dumps(kept)


@pytest.mark.parametrize(
    ("patient", "key"),
    [
        ({"reference": "Patient/p-1"}, "p-1"),
        ({"reference": "Patient/p-1/_history/3"}, "p-1"),
        ({"reference": "https://ehr.example/fhir/Patient/p-1"}, "p-1"),
        ({"reference": "https://other.example/fhir/Patient/p-1"}, None),
        ({"reference": "Group/p-1"}, None),
        ({"reference": "#p-1"}, None),
        ({"reference": "urn:uuid:7d6e"}, None),
        ({"identifier": {"system": "urn:mrn", "value": " 0815 "}}, "urn:mrn|0815"),
        ({"identifier": {"value": 815}}, None),
        ({"display": "somebody"}, None),
        ("p-1", None),
        (None, None),
    ],
)
def test_a_patient_is_told_by_a_reference_to_this_server_or_an_identifier(patient: Any, key: str | None) -> None:
    resource = {"resourceType": "Consent", "id": "c-1", "patient": patient}
    assert read_incoming(resource, "https://ehr.example/fhir").patients == ((key,) if key else ())


def test_a_patient_map_joins_records_that_were_merged(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text("fhir_patient,patient_id\np-1,A\nurn:mrn|7,A\np-2,B\n")
    found = read_patient_map(path)
    assert (found.cohort_id("urn:mrn|7"), found.keys("A"), found.cohort_id("p-9")) == ("A", ("p-1", "urn:mrn|7"), None)
    assert PatientMap().cohort_id(PatientMap().normal("urn:mrn|7")) == "7"
    path.write_text("fhir_patient,patient_id\np-1,A\np-1,B\n")
    with pytest.raises(ManifestError, match="two patients"):
        read_patient_map(path)


def test_a_sealed_identifier_opens_with_the_sites_secret_and_for_its_own_pseudonym_only() -> None:
    ours = Pseudonyms(b"a" * 32)
    other = Pseudonyms(b"b" * 32)
    sealed = ours.seal("MRN-1")
    assert ours.unseal(ours.of("MRN-1"), sealed) == "MRN-1"
    assert ours.seal("MRN-1") != sealed
    assert other.of("MRN-1") != ours.of("MRN-1")
    for pseudonyms, name in ((other, ours.of("MRN-1")), (ours, ours.of("MRN-2"))):
        with pytest.raises(InputError, match="cannot decrypt"):
            pseudonyms.unseal(name, sealed)

    assert ours.receipt("a", "bc") != ours.receipt("ab", "c")


@pytest.mark.parametrize(
    ("last", "now", "due"),
    [
        ("2026-11-01T23:00", "2026-11-02T01:59", False),
        ("2026-11-01T23:00", "2026-11-02T02:00", True),
        ("2026-11-02T02:01", "2026-11-02T23:59", False),
        ("2026-10-30T12:00", "2026-11-02T00:30", True),
    ],
)
def test_everything_is_read_once_a_night(last: str, now: str, due: bool) -> None:
    before, moment = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (last, now))
    assert is_night_due(before, moment, hour=2) is due
