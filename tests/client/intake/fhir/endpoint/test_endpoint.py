"""The FHIR process of a site: what it takes, what it refuses, and what it never says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fhir.resources.capabilitystatement import CapabilityStatement as R5
from fhir.resources.R4B.capabilitystatement import CapabilityStatement as R4B
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.revocations.tombstones.overview import read_revocations

JSON = {"content-type": "application/fhir+json"}


@pytest.fixture(scope="module")
def hospital(start_hospital: Callable[..., Any], running_stub: Any) -> Any:
    return start_hospital(f'server = "{running_stub.base}"\npull_seconds = 3600\noverlap_seconds = 1')


def versioned(resource: dict[str, Any], number: int) -> dict[str, Any]:
    return {**resource, "meta": {"versionId": str(number), "lastUpdated": f"2026-11-01T08:00:{number:02}Z"}}


def receipt(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    values = {p["name"]: p for p in answer.json()["parameter"]}
    counts = [values[name]["valueInteger"] for name in ("known", "unknown", "doubtful") if name in values]
    assert values.keys() - {"known", "unknown", "doubtful"} == {"receipt", "received"}
    assert sum(counts) == (1 if counts else 0)
    return str(values["receipt"]["valueString"])


def test_nobody_gets_in_without_the_token(hospital: Any, running_stub: Any) -> None:
    body = json.dumps(running_stub.consent("c-x", "p-9", "inactive"))
    for shown in ("", "Bearer", "Bearer x", f"Basic {hospital.token}", hospital.token):
        for method, path in (("GET", "/metadata"), ("PUT", "/Consent/c-x"), ("POST", "/hook"), ("POST", "/Consent")):
            answer = hospital.http.request(method, path, content=body, headers={**JSON, "authorization": shown})
            assert (answer.status_code, answer.json()["resourceType"]) == (401, "OperationOutcome")

    assert "p-9" not in hospital.revoked()


def test_a_withdrawal_is_recorded_before_the_answer_and_the_same_version_has_one_receipt(
    hospital: Any, running_stub: Any
) -> None:
    first = receipt(hospital.put(versioned(running_stub.consent("c-1", "p-1"), 1)))
    assert "p-1" not in hospital.revoked()
    changed = versioned(running_stub.consent("c-1", "p-1", "inactive"), 2)
    second = receipt(hospital.put(changed))
    entry = read_revocations(hospital.folder.root).patients["p-1"]
    assert (entry.receipt, entry.state) == (second, "pending")
    assert receipt(hospital.http.post("/Consent", json=changed)) == second != first
    assert receipt(hospital.http.put("/Consent", json=changed)) == second
    assert read_revocations(hospital.folder.root).patients["p-1"] == entry


def test_a_consent_without_an_id_is_given_one_and_the_same_content_is_taken_once(
    hospital: Any, running_stub: Any
) -> None:
    consent = running_stub.consent("x", "created-1")
    del consent["id"]
    first = hospital.http.post("/Consent", json=consent)
    assert first.status_code == 201, first.text
    number = first.headers["location"].rpartition("/")[2]
    assert first.headers["location"] == f"{hospital.http.base_url}Consent/{number}"
    again = hospital.http.post(
        "/Consent", json={**consent, "meta": {"tag": []}}, headers={"if-none-exist": "identifier=1"}
    )
    assert (again.status_code, again.headers["location"]) == (200, first.headers["location"])
    assert "created-1" not in hospital.revoked()
    receipt(hospital.put({**consent, "id": number, "status": "inactive"}))
    assert "created-1" in hospital.revoked()
    other = hospital.http.post("/Consent", json={**consent, "status": "inactive"})
    assert (other.status_code, other.headers["location"] != first.headers["location"]) == (201, True)
    for wrong in ("", 7, "a b"):
        assert hospital.http.post("/Consent", json={**consent, "id": wrong}).status_code == 422
    assert hospital.http.put("/Consent", json=consent).status_code == 422


def test_a_push_of_what_two_readers_would_read_differently_is_refused_and_holds(
    hospital: Any, running_stub: Any
) -> None:
    body = json.dumps(running_stub.consent("c-12", "p-12-held"))
    twice = body.replace('"status": "active"', '"status": "inactive", "status": "active"')
    for content in (twice, body.replace('"status"', '"x": NaN, "status"')):
        for method, path in (("PUT", "/Consent/c-12"), ("POST", "/Consent")):
            answer = hospital.http.request(method, path, content=content, headers=JSON)
            assert (answer.status_code, "is on hold" in answer.text, "p-12" in answer.text) == (422, True, False)


def test_an_unknown_patient_is_answered_like_any_other_and_recorded(hospital: Any, running_stub: Any) -> None:
    receipt(hospital.put(running_stub.consent("c-2", "stranger-7", "inactive")))
    assert read_revocations(hospital.folder.root).patients["stranger-7"].state == "excluded-before-training"


def revocation(consent: str, patient: str) -> dict[str, Any]:
    values = {"consent": f"Consent/{consent}", "patient": f"Patient/{patient}"}
    parameters = [{"name": name, "valueReference": {"reference": text}} for name, text in values.items()]
    return {"resourceType": "Parameters", "parameter": parameters}


def test_revoke_consent_revokes_once_and_only_the_patients_own(hospital: Any, running_stub: Any) -> None:
    receipt(hospital.put(versioned(running_stub.consent("c-3", "p-3"), 1)))
    refused = hospital.http.post("/Consent/$revokeConsent", json=revocation("c-3", "p-4"))
    assert (refused.status_code, hospital.revoked() & {"p-3", "p-4"}) == (422, set())
    first = receipt(hospital.http.post("/Consent/$revokeConsent", json=revocation("c-3", "p-3")))
    assert read_revocations(hospital.folder.root).patients["p-3"].receipt == first
    assert receipt(hospital.http.post("/Consent/$revokeConsent", json=revocation("c-3", "p-3"))) == first
    receipt(hospital.http.post("/Consent/$revokeConsent", json=revocation("never-seen", "p-4")))
    assert "p-4" in hospital.revoked()


@pytest.mark.parametrize("kind", ["empty", "r4", "r5", "garbage"])
def test_a_hook_makes_the_site_pull_whatever_it_carries(hospital: Any, ehr: Any, kind: str) -> None:
    number = 5 + ["empty", "r4", "r5", "garbage"].index(kind)
    ehr.write(ehr.consent(f"h-{number}", f"p-{number}", "inactive"))

    if kind == "empty":
        answer = hospital.http.post("/hook")
    elif kind == "garbage":
        answer = hospital.http.post("/hook", content=b"{", headers=JSON)
    else:
        status = {"resourceType": "Parameters" if kind == "r4" else "SubscriptionStatus"}
        carried = [{"resource": status}, {"resource": ehr.consent(f"carried-{kind}", f"carried-{kind}", "inactive")}]
        bundle = {"type": "history" if kind == "r4" else "subscription-notification", "entry": carried}
        answer = hospital.http.post("/hook", json={"resourceType": "Bundle", **bundle})
        assert f"carried-{kind}" in hospital.revoked()

    assert answer.status_code == (422 if kind == "garbage" else 200)
    hospital.until(lambda: f"p-{number}" in hospital.revoked())


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status"),
    [
        ("PUT", "/Consent/c-8", b"", JSON, 422),
        ("PUT", "/Consent/c-8", b"\xff", JSON, 422),
        ("PUT", "/Consent/c-8", b"[" * 100_000, JSON, 422),
        ("PUT", "/Consent/c-8", b'{"a":' * 60 + b"1" + b"}" * 60, JSON, 422),
        ("PUT", "/Consent/c-8", b'{"resourceType":"Consent","id":"c-8","id":"c-9"}', JSON, 422),
        ("PUT", "/Consent/c-8", b'{"resourceType":"Consent","id":"c-8"}', JSON, 422),
        ("PUT", "/Consent/c-8", b'{"resourceType":"Consent","id":"c-9"}', JSON, 400),
        ("PUT", "/Consent/c-8", b'{"resourceType":"Patient","id":"c-8"}', JSON, 422),
        ("PUT", "/Consent/c-8", b"{}", {"content-type": "text/plain"}, 415),
        ("POST", "/Consent/$revokeConsent", b'{"resourceType":"Parameters","parameter":[1]}', JSON, 422),
        ("POST", "/Consent", b" " * (2**20 + 1), JSON, 413),
        ("DELETE", "/Consent/c-8", b"", {}, 405),
        ("GET", "/Consent/c-8", b"", {}, 405),
        ("GET", "/Patient/secret-9", b"", {}, 404),
    ],
)
def test_what_cannot_be_taken_gets_an_outcome_and_leaves_nothing(
    hospital: Any, method: str, path: str, content: bytes, headers: dict[str, str], status: int
) -> None:
    file = hospital.folder.tombstones
    # The tests of this module share a hospital: whether somebody has revoked there depends on which ran before.
    before = file.read_bytes() if file.exists() else None
    answer = hospital.http.request(method, path, content=content, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/fhir+json"
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert "secret-9" not in answer.text
    assert (file.read_bytes() if file.exists() else None) == before


@pytest.mark.parametrize("changed", ["status", "patient", "scope", "dateTime", "provision"])
def test_a_consent_that_says_nothing_fhir_knows_is_refused_without_quoting_it(
    hospital: Any, running_stub: Any, changed: str
) -> None:
    resource = running_stub.consent("c-9", "p-0", "inactive")
    answer = hospital.put(
        {**resource, changed: "secret-10" if changed in ("status", "dateTime") else {"a": "secret-10"}}
    )
    assert (answer.status_code, "secret-10" in answer.text) == (422, False)
    assert ("is on hold" in answer.text) == (changed != "patient")
    entry = read_revocations(hospital.folder.root).patients.get("p-0")
    assert entry is None or entry.state == "on-hold"


def test_the_statement_of_capabilities_names_what_is_served(hospital: Any) -> None:
    found = hospital.http.get("/metadata").json()
    (resource,) = found["rest"][0]["resource"]
    assert (found["resourceType"], resource["type"]) == ("CapabilityStatement", "Consent")
    assert resource["operation"][0]["name"] == "revokeConsent"
    for release in (R4B, R5):
        release.model_validate(found)


def test_what_the_statement_says_of_versions_is_what_the_endpoint_does(hospital: Any, running_stub: Any) -> None:
    (resource,) = hospital.http.get("/metadata").json()["rest"][0]["resource"]
    assert (resource["versioning"], resource["readHistory"]) == ("no-version", False)
    assert {interaction["code"] for interaction in resource["interaction"]} == {"create", "update"}
    sent = versioned(running_stub.consent("c-11", "p-11"), 1)
    taken = hospital.put(sent)
    other = hospital.http.put("/Consent/c-11", json=versioned(sent, 2), headers={"if-match": 'W/"7"'})

    for answer in (taken, other):
        receipt(answer)
        assert "etag" not in answer.headers
        assert "location" not in answer.headers

    for path in ("", "/_history", "/_history/1"):
        assert hospital.http.get(f"/Consent/c-11{path}").status_code in (404, 405)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=5) | st.sampled_from(["active", "Patient/x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["coding", "system", "code", "reference", "type", "provision"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["status", "scope", "patient", "subject", "meta", "provision", "policy", "decision", "dateTime"]
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(NAMES, VALUES, max_size=4))
def test_no_consent_however_strange_makes_the_endpoint_fail(
    hospital: Any, running_stub: Any, changes: dict[str, Any]
) -> None:
    answer = hospital.put({**running_stub.consent("strange", "nobody-here"), **changes})
    assert answer.status_code in (200, 422), answer.text
    hook = hospital.http.put(
        "/hook/Consent/strange", json={**running_stub.consent("strange", "nobody-here"), **changes}
    )
    assert hook.status_code == 200, hook.text


REFERENCES = st.fixed_dictionaries(
    {"name": st.sampled_from(["consent", "patient", "document"])},
    optional={"valueReference": st.fixed_dictionaries({}, optional={"reference": VALUES, "identifier": VALUES})},
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parameters=st.lists(REFERENCES | VALUES, max_size=4) | VALUES)
def test_no_revoke_operation_however_strange_makes_the_endpoint_fail_or_revokes(hospital: Any, parameters: Any) -> None:
    before = hospital.revoked()
    answer = hospital.http.post("/Consent/$revokeConsent", json={"resourceType": "Parameters", "parameter": parameters})
    assert answer.status_code == 422, answer.text
    assert hospital.revoked() == before


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(min_size=1, max_size=200), path=st.sampled_from(["Consent", "Consent/$revokeConsent", "hook"]))
def test_no_bytes_make_the_endpoint_fail_or_leave_anything(hospital: Any, content: bytes, path: str) -> None:
    before = hospital.revoked()
    answer = hospital.http.post(f"/{path}", content=content, headers=JSON)
    assert answer.status_code == 422, answer.text
    assert hospital.revoked() == before


def test_what_was_acknowledged_before_a_kill_is_there_exactly_once(hospital: Any, running_stub: Any) -> None:
    acknowledged: list[str] = []
    began = threading.Event()

    def send() -> None:
        for n in range(200):
            try:
                answer = hospital.put(versioned(running_stub.consent(f"k-{n}", f"kill-{n}", "inactive"), 1))
            except httpx.HTTPError:
                return

            acknowledged.append(f"kill-{n}" if answer.status_code == 200 else "")
            began.set()

    thread = threading.Thread(target=send)
    thread.start()
    assert began.wait(30)
    time.sleep(0.2)
    hospital.process.kill()
    hospital.process.wait()
    thread.join()
    hospital.start()
    assert 0 < len(acknowledged) < 200
    revoked = hospital.revoked()
    assert set(acknowledged) <= revoked
    sent = len(acknowledged)
    kept = {n for n in range(200) if f"kill-{n}" in revoked}
    assert kept in (set(range(sent)), set(range(sent + 1)))


def test_no_line_of_the_log_names_a_patient_or_a_consent(hospital: Any) -> None:
    text = hospital.log.read_text()
    assert "listening" in text
    for identifier in ("p-1", "p-3", "stranger", "kill-", "c-1", "k-1", "secret", "carried", hospital.token):
        assert identifier not in text.replace("site-", ""), identifier
