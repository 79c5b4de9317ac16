"""The rule against a table of cases, and properties that hold for any set of consents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from _pytest.mark import ParameterSet
from hypothesis import given
from hypothesis import strategies as st

from client.consent.broad_consent import USE_FOR_RESEARCH
from client.consent.documents import Coding
from client.consent.rule import Answer, Deny, Permit, Unknown, permitted

SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"
NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
KINDS = {"permit": Permit, "deny": Deny, "unknown": Unknown}
Resource = dict[str, Any]
"""A FHIR resource as JSON."""


def cases() -> Iterator[ParameterSet]:
    for path in sorted((Path(__file__).parent / "cases").glob("*.json")):
        for case in json.loads(path.read_text(encoding="utf-8")):
            yield pytest.param(case, id=f"{path.stem}: {case['title']}")


def ask(consents: Sequence[Resource], at: datetime = NOW, purpose: Coding | None = None) -> Answer:
    return permitted(consents, USE_FOR_RESEARCH, purpose, at)


@pytest.mark.parametrize("case", list(cases()))
def test_a_case_of_the_table_is_answered_as_written(case: Resource) -> None:
    at = datetime.fromisoformat(case["at"]) if "at" in case else NOW
    purpose = Coding(**case["purpose"]) if "purpose" in case else None

    for consents in (case["consents"], case["consents"][::-1], case["consents"] * 2):
        answer = ask(consents, at, purpose)
        assert type(answer) is KINDS[case["answer"]], answer
        assert case.get("reason", "") in getattr(answer, "reason", "")


def test_a_newer_permission_of_everything_does_not_hide_a_denial_of_training_by_name() -> None:
    def consent(number: int, day: str, provision: Resource) -> Resource:
        return {
            "resourceType": "Consent",
            "id": f"c-{number}",
            "meta": {"versionId": "1", "lastUpdated": f"{day}T10:00:00Z"},
            "status": "active",
            "scope": {"coding": [{"system": SCOPES, "code": "patient-privacy"}]},
            "category": [{"coding": [{"system": "http://loinc.org", "code": "57016-8"}]}],
            "patient": {"reference": "Patient/p-1"},
            "dateTime": day,
            "policy": [{"uri": "urn:policy"}],
            "provision": provision,
        }

    training = [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "MLTRAINING"}]
    denial = {"type": "permit", "provision": [{"type": "deny", "purpose": training}]}
    first = consent(1, "2024-01-01", denial)

    assert isinstance(ask([first]), Deny)
    answer = ask([first, consent(2, "2025-01-01", {"type": "permit"})])
    assert isinstance(answer, Unknown)
    assert "by name" in answer.reason


days = st.integers(0, 9).map(lambda day: f"2026-10-{day + 10}")
times = st.integers(0, 23).map(lambda hour: f"T{hour:02}:00:00Z")
CODE = [{"coding": [{"system": USE_FOR_RESEARCH.system, "code": USE_FOR_RESEARCH.code}]}]
FORMS = ["1791", "2079", "2722", "2723", "4031", "4054", "9999"]


@st.composite
def a_consent(draw: st.DrawFn) -> Resource:
    """A consent of R4 with a few ids, versions, templates and days, so that they meet."""
    kind = draw(st.sampled_from(["permit", "deny"]))
    nested = draw(st.lists(st.sampled_from(["permit", "deny"]), max_size=2))
    uri = draw(st.sampled_from(["urn:a", "urn:b", *(f"urn:oid:2.16.840.1.113883.3.1937.777.24.2.{n}" for n in FORMS)]))
    day = draw(days)
    resource: Resource = {
        "resourceType": "Consent",
        "id": f"c-{draw(st.integers(1, 4))}",
        "meta": {"versionId": str(draw(st.integers(1, 99))), "lastUpdated": draw(days) + draw(times)},
        "status": draw(st.sampled_from(["active"] * 4 + ["inactive", "entered-in-error", "draft", "rejected"])),
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]},
        "dateTime": day + draw(st.just("") | times),
        "policy": [{"uri": uri}],
        "provision": {"type": kind},
    }
    if nested:
        resource["provision"]["provision"] = [{"type": inner, "code": CODE} for inner in nested]
    return resource


@given(st.lists(a_consent(), max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(consents: list[Resource], random: Random) -> None:
    answer = ask(consents)
    shuffled = [*consents, *consents[:2]]
    random.shuffle(shuffled)
    assert ask(shuffled) == answer


def denies(resource: Resource) -> bool:
    """What any reader would call a denial, told without the rule's own code."""
    if resource["status"] in ("inactive", "rejected"):
        return True
    inner = [provision["type"] for provision in resource["provision"].get("provision", [])]

    return resource["status"] == "active" and (
        "deny" in inner or (not inner and resource["provision"]["type"] == "deny")
    )


def newest(consents: list[Resource]) -> Resource | None:
    """The last versions, drafts left out, and of those the one whose day is latest; None if a day is shared."""
    last = {}
    for resource in sorted(consents, key=lambda resource: int(resource["meta"]["versionId"])):
        last[resource["id"]] = resource
    dated = sorted((r for r in last.values() if r["status"] != "draft"), key=lambda r: r["dateTime"][:10])
    if not dated or (len(dated) > 1 and dated[-2]["dateTime"][:10] == dated[-1]["dateTime"][:10]):
        return None
    return dated[-1]


@given(st.lists(a_consent(), min_size=1, max_size=6))
def test_it_never_permits_when_the_newest_effective_document_denies(consents: list[Resource]) -> None:
    last = newest(consents)
    partial = last is not None and last["policy"][0]["uri"].endswith((".2723", ".4031"))
    if last is not None and denies(last) and not (partial and "provision" not in last["provision"]):
        assert not isinstance(ask(consents), Permit)


@given(st.lists(a_consent(), min_size=1, max_size=6))
def test_it_permits_only_where_some_consent_in_force_permits(consents: list[Resource]) -> None:
    if isinstance(ask(consents), Permit):
        assert any(
            resource["status"] == "active"
            and "permit"
            in {resource["provision"]["type"], *(p["type"] for p in resource["provision"].get("provision", []))}
            for resource in consents
        )


@given(st.lists(a_consent(), min_size=1, max_size=4), st.sampled_from(["inactive", "revoked", "entered-in-error"]))
def test_after_any_kind_of_end_to_all_documents_nothing_is_permitted(consents: list[Resource], status: str) -> None:
    ended = [
        {**resource, "status": status, "meta": {"versionId": str(100 + index), "lastUpdated": "2026-11-01T00:00:00Z"}}
        for index, resource in enumerate(consents)
    ]
    assert not isinstance(ask([*consents, *ended]), Permit)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["permit", "deny", "active"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(a_consent(), st.data())
def test_a_malformed_consent_is_never_an_exception(resource: Resource, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(sorted(resource)))
    broken = {**resource, place: data.draw(json_values)}
    nested = {
        **resource,
        "provision": {**resource["provision"], data.draw(st.text(max_size=8)): data.draw(json_values)},
    }
    for wrong in (broken, nested):
        assert isinstance(ask([wrong]), Permit | Deny | Unknown)


def test_a_consent_nested_without_end_is_unknown() -> None:
    provision: Resource = {"type": "permit"}
    for _ in range(5000):
        provision = {"type": "permit", "provision": [provision]}
    resource = {"resourceType": "Consent", "id": "c", "status": "active", "patient": {"reference": "Patient/p"}}
    assert ask([{**resource, "provision": provision}]) == Unknown("a consent cannot be read: nested too deeply")


def test_no_reason_repeats_what_a_consent_holds() -> None:
    secret = "Erika-Mustermann-1234"
    resource: Resource = {
        "resourceType": "Consent",
        "id": secret,
        "meta": {"versionId": secret, "lastUpdated": "2026-01-01T00:00:00Z"},
        "status": "active",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]},
        "patient": {"reference": f"Patient/{secret}"},
        "dateTime": "2026-01-01",
        "policy": [{"uri": f"urn:{secret}:1"}],
        "provision": {"type": "permit"},
    }
    assert isinstance(ask([resource]), Permit)
    wrong: list[Resource] = [
        {name: secret} for name in ("status", "scope", "dateTime", "policy", "provision", "implicitRules")
    ]
    wrong += [{"provision": {"type": secret}}, {"provision": {"type": "permit", secret: 1}}]
    wrong += [
        {"meta": {"versionId": secret, "lastUpdated": secret}},
        {"provision": {"type": "permit", "actor": [secret]}},
    ]

    for change in wrong:
        answer = ask([{**resource, **change}])
        assert isinstance(answer, Unknown)
        assert secret not in answer.reason
