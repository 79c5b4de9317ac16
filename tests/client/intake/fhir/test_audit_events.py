"""AuditEvents of the site's log: valid FHIR R4, in the shape of IHE's patterns, and they name nobody unasked."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from typer.testing import CliRunner

from client.account.audit_events import Leaf, Parties, audit_events
from client.cli import app
from client.evidence.event_log import SiteLog
from client.revocations.access import write_closed, write_opened
from client.revocations.opening import open_ledger
from client.revocations.revocation import Request, Source
from client.settings import SiteFolder
from common.evidence.canonical import canonical
from common.evidence.commitment import commitment
from common.evidence.log.tree_log import Entry
from common.evidence.statements import Revocation, revocation_statement
from common.platform.sql import open_database

CODES = {
    "http://dicom.nema.org/resources/ontology/DCM": {"110113", "110150", "110152", "110153"},
    "http://terminology.hl7.org/CodeSystem/audit-event-type": {"rest"},
    "http://terminology.hl7.org/CodeSystem/audit-entity-type": {"1", "2", "3", "4"},
    "http://terminology.hl7.org/CodeSystem/object-role": {str(number) for number in range(1, 25)},
    "http://terminology.hl7.org/CodeSystem/security-source-type": {str(number) for number in range(1, 10)},
    "http://hl7.org/fhir/restful-interaction": {"read", "vread", "update", "patch", "delete", "create", "search"},
    # ISO 21089-2017, the part of its 27 events that we use.
    "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle": {
        "access", "amend", "attest", "destroy", "receive", "report",
    },
}  # fmt: skip
"""Code lists of FHIR R4 that the models of `fhir.resources` do not enforce."""
PARTIES = Parties("north", "fed.example.org:8444")
TIME = "2026-11-20T09:00:00Z"


def a_revocation(source: str = "fhir") -> bytes:
    return revocation_statement(
        Revocation(
            document="ab" * 32,
            request="aa",
            site="north",
            source=source,  # type: ignore[arg-type]  # one of its three
            legal_basis="GDPR 7(3)",
            requester="patient",
            identity_check="in person",
            modalities=("images", "reports"),
            policies=(),
            received="2026-11-02T08:14:00Z",
            effective="2026-11-02T08:14:00Z",
            due="2026-12-02T08:14:00Z",
        )
    )


DOCUMENTS = (
    ("key", b'{"key":"x"}'),
    ("revocation", a_revocation()),
    ("revocation", a_revocation("form")),
    ("tombstone", b'{"receipt":"aa","use":"stopped"}'),
    ("steward-signed", canonical({"receipt": "aa", "keyid": "cd" * 32, "sig": "AA=="})),
    ("access-opened", canonical({"access": "opened", "campaign": 2, "patients": 3})),
    ("audited", canonical({"campaign": 2, "figures": "ef" * 32})),
    ("unlearned", canonical({"campaign": 2, "how": "unlearned", "revocations": [], "weights": "12" * 32})),
    ("retrained", canonical({"campaign": 3, "how": "retrained", "revocations": [], "weights": "34" * 32})),
    ("attested", canonical({"predicate": {"campaign": "2"}, "predicateType": "https://fedforget.org/unlearning/v1"})),
    ("access-closed", canonical({"access": "closed", "campaign": 2, "purged": {"pixels": 2, "studies": 1}})),
    ("access-closed", canonical({"access": "closed", "campaign": 3})),
    ("purged", canonical({"kind": "purged", "version": "v0001", "weights": "56" * 32})),
    ("log-refused", canonical({"origin": "server", "reason": "the log was cut short"})),
    ("revocation", None),
)
LEAVES = [
    Leaf(place, Entry(commitment(document or b"", bytes(32)), kind, TIME), document)
    for place, (kind, document) in enumerate(DOCUMENTS)
]


def codings(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        if "code" in value:
            yield value["system"], value["code"]
        for item in value.values():
            yield from codings(item)
    elif isinstance(value, list):
        for item in value:
            yield from codings(item)


def check(event: dict[str, Any]) -> None:
    """FHIR R4's model, the code lists that it leaves open, and what IHE's patterns ask of every event."""
    AuditEvent.model_validate(event)
    for system, code in codings(event):
        assert code in CODES[system], (system, code)
    assert event["action"] in set("CRUDE")
    assert event["outcome"] in {"0", "4", "8", "12"}
    client, server = event["agent"]
    assert [agent["type"]["coding"][0]["code"] for agent in (client, server)] == ["110153", "110152"]

    for agent in (client, server):
        assert agent["who"]["identifier"]["value"]
        assert agent["network"]["address"]
        assert agent["network"]["type"] in set("12345")
        assert "media" not in agent

    data = [entity for entity in event["entity"] if entity["type"]["code"] == "2"]
    assert len(data) == 1
    assert data[0]["what"]
    assert event["source"]["observer"]


def test_every_event_is_valid_and_has_the_shape_of_the_patterns() -> None:
    events = [*audit_events(LEAVES, PARTIES)]
    for event in events:
        check(event)
    kinds = [event["outcomeDesc"] for event in events]
    assert kinds == [kind for kind, _ in DOCUMENTS if kind not in {"key", "tombstone"}]
    assert len({event["id"] for event in events}) == len(events)
    assert [event["id"] for event in events] == [event["id"] for event in audit_events(LEAVES, PARTIES)]


@pytest.mark.parametrize(("interaction", "action"), [("update", "U"), ("create", "C")])
def test_only_a_consent_that_was_put_or_posted_claims_the_profile_of_that(interaction: str, action: str) -> None:
    by_fhir, by_form, *rest = audit_events(LEAVES, PARTIES, None, {"aa": interaction})
    check(by_fhir)
    profile = f"https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.{interaction.capitalize()}"
    assert by_fhir["meta"]["profile"] == [profile]
    assert (by_fhir["type"]["code"], by_fhir["subtype"][0]["code"], by_fhir["action"]) == ("rest", interaction, action)
    assert all("meta" not in event for event in (by_form, *rest))
    assert by_form["type"]["code"] == "receive"


def test_a_consent_that_the_site_read_itself_claims_no_profile() -> None:
    pulled, *_ = audit_events(LEAVES, PARTIES, None, {"another": "update"})
    check(pulled)
    assert ("meta" in pulled, pulled["type"]["code"], pulled["action"]) == (False, "receive", "U")


def test_what_was_erased_leaves_an_event_that_points_at_its_leaf() -> None:
    *_, erased = audit_events(LEAVES, PARTIES)
    assert erased["entity"][0]["what"]["identifier"]["value"] == str(len(LEAVES) - 1)


def test_a_refused_log_is_a_failure_and_a_deletion_is_a_deletion() -> None:
    events = {event["outcomeDesc"]: event for event in audit_events(LEAVES, PARTIES)}
    assert (events["log-refused"]["outcome"], events["log-refused"]["action"]) == ("8", "E")
    assert events["purged"]["action"] == "D"
    assert events["access-opened"]["entity"][1]["detail"] == [{"type": "patients", "valueString": "3"}]
    assert events["unlearned"]["agent"][0]["network"]["address"] == "https://fed.example.org:8444"


def test_patients_are_named_only_where_they_are_given_each_in_an_event_of_its_own() -> None:
    assert not any(entity["type"]["code"] == "1" for e in audit_events(LEAVES, PARTIES) for entity in e["entity"])
    named = [*audit_events(LEAVES, PARTIES, {"aa": ["p-1", "p-2"]}, {"aa": "update"})][:2]

    for event, patient in zip(named, ("p-1", "p-2"), strict=True):
        check(event)
        assert event["meta"]["profile"][0].endswith("IHE.BasicAudit.PatientUpdate")
        assert event["entity"][-1]["what"] == {"type": "Patient", "identifier": {"value": patient}}
        assert event["entity"][-1]["role"]["code"] == "1"

    assert named[0]["id"] != named[1]["id"]


@pytest.fixture
def hospital(site_folder: Path, enrol: Callable[[Path, str], Path]) -> Path:
    return enrol(site_folder, "north")


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["log", "audit-events", *map(str, arguments)])
    return result.exit_code, result.output


def test_a_hospitals_events_are_written_and_name_nobody_unasked(hospital: Path, secret: str, tmp_path: Path) -> None:
    patients = [f"{secret}-0", f"{secret}-1"]
    with open_ledger(SiteFolder(hospital)) as ledger:
        ledger.record(Request(Source("cli", "aa"), "aa", datetime.now(UTC)), patients)
        pseudonyms = ledger.stopped()
        with ledger.writing() as writing:
            write_opened(writing.session, 7, 2, ledger.clock())

    engine = open_database(f"sqlite:///{hospital / 'site.db'}")
    site = SiteLog(SiteFolder(hospital), engine, lambda: datetime.now(UTC) + timedelta(days=1))
    site.follow()
    site.adopted(7, "v0002", "12" * 32, "unlearned", pseudonyms)
    engine.dispose()
    with open_ledger(SiteFolder(hospital)) as ledger, ledger.writing() as writing:
        write_closed(writing.session, 7, {"pixels": 4, "studies": 2}, ledger.clock())
    file = tmp_path / "audit.ndjson"
    code, output = run(file, "--dir", hospital)
    assert (code, "name nobody" in output) == (0, True)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [event["outcomeDesc"] for event in events] == [
        "revocation", "access-opened", "unlearned", "access-closed",
    ]  # fmt: skip
    counts = {detail["type"]: detail["valueString"] for detail in events[-1]["entity"][1]["detail"]}
    assert counts == {"purged-pixels": "4", "purged-studies": "2"}
    for event in events:
        check(event)
    assert secret not in file.read_text()
    named = tmp_path / "named.ndjson"
    code, output = run(named, "--with-patients", "--dir", hospital)
    assert (code, "5 AuditEvents; they name patients" in output) == (0, True)
    assert all(patient in named.read_text() for patient in patients)
    assert stat.S_IMODE(named.stat().st_mode) == 0o600
    assert run(named, "--with-patients", "--dir", hospital)[0] == 2
