"""The site's log of revocations, access and unlearning as FHIR R4 AuditEvents, for a hospital's audit store.

They have the shape of IHE's Basic Audit Log Patterns (https://profiles.ihe.net/ITI/BALP/): a client agent, a server
agent, the data as an entity, and the patient as another one only where the steward asks for it. The profile is claimed
where it is met: for consents that a system of the hospital has put or posted here. What this site read from the FHIR
server, was notified of or was asked to revoke is neither `Create` nor `Update`; it uses ISO 21089 lifecycle events, as
does the rest.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import EvidenceError
from common.evidence.canonical import Json, parse_canonical
from common.evidence.log.tree_log import Entry
from common.evidence.statements import Revocation, read_revocation

Resource = dict[str, Any]

_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_EVENT_TYPE = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_LIFECYCLE = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
_INTERACTION = "http://hl7.org/fhir/restful-interaction"
_SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
_PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_URI = "5"
"""Type code of a network address."""
_SUCCESS = "0"
_SERIOUS_FAILURE = "8"
_NAMESPACE = uuid.UUID("6f3fdc41-6c1e-5f0f-9a3e-0d6c7c0c3a11")
"""Namespace of the ids, so that a repeated export gives the same resources."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf of the log at `position`, and its record; None once that was erased."""

    position: int
    entry: Entry
    document: bytes | None


@dataclass(frozen=True, slots=True)
class Parties:
    """The communicating parties: the site by name, the coordinator by address."""

    site: str
    coordinator: str


@dataclass(frozen=True, slots=True)
class _Pattern:
    """The event for a kind of leaf: type, action, role of the coordinator, and outcome."""

    system: str
    code: str
    display: str
    action: str
    from_coordinator: bool = False
    outcome: str = _SUCCESS


_PATTERNS: Mapping[str, _Pattern] = {
    "revocation": _Pattern(_LIFECYCLE, "receive", "Receive/Retain Record Lifecycle Event", "U"),
    "readmitted": _Pattern(_LIFECYCLE, "reactivate", "Re-activate Record Lifecycle Event", "U"),
    "steward-signed": _Pattern(_LIFECYCLE, "attest", "Attest Record Lifecycle Event", "U"),
    "attested": _Pattern(_LIFECYCLE, "attest", "Attest Record Lifecycle Event", "U", from_coordinator=True),
    "access-opened": _Pattern(_LIFECYCLE, "access", "Access/View Record Lifecycle Event", "R", from_coordinator=True),
    "access-closed": _Pattern(_LIFECYCLE, "access", "Access/View Record Lifecycle Event", "R", from_coordinator=True),
    "audited": _Pattern(_LIFECYCLE, "report", "Report (Output) Record Lifecycle Event", "R", from_coordinator=True),
    "unlearned": _Pattern(_LIFECYCLE, "amend", "Amend (Update) Record Lifecycle Event", "U", from_coordinator=True),
    "retrained": _Pattern(_LIFECYCLE, "amend", "Amend (Update) Record Lifecycle Event", "U", from_coordinator=True),
    "purged": _Pattern(_LIFECYCLE, "destroy", "Destroy/Delete Record Lifecycle Event", "D"),
    "log-refused": _Pattern(_DCM, "110113", "Security Alert", "E", from_coordinator=True, outcome=_SERIOUS_FAILURE),
}


def audit_events(
    leaves: Sequence[Leaf],
    parties: Parties,
    patients: Mapping[str, Sequence[str]] | None = None,
    interactions: Mapping[str, str] | None = None,
) -> Iterator[Resource]:
    """AuditEvents about those leaves that concern patients' data or a model's, in the order of the log.

    Args:
        leaves: of the site's log.
        parties: whom they name.
        patients: identifiers by receipt, to be written into the events; None: nobody is named.
        interactions: `create` or `update` by receipt, of consents that were handed in so.
    """
    for leaf in leaves:
        pattern = _PATTERNS.get(leaf.entry.kind)
        if pattern is None:
            continue
        revocation = _revocation(leaf)
        identifiers = patients.get(revocation.request, ()) if patients and revocation else ()
        is_fhir = revocation is not None and revocation.source == "fhir"
        interaction = (interactions or {}).get(revocation.request, "") if revocation and is_fhir else ""
        event = _event(leaf, pattern, parties, revocation, interaction)
        if not identifiers:
            yield event
        for number, patient in enumerate(identifiers):
            yield _about(event, number, patient, interaction)


def _event(
    leaf: Leaf, pattern: _Pattern, parties: Parties, revocation: Revocation | None, interaction: str
) -> Resource:
    kind = {"system": pattern.system, "code": pattern.code, "display": pattern.display}
    if interaction:
        kind = {"system": _EVENT_TYPE, "code": "rest", "display": "Restful Operation"}
    event: Resource = {"resourceType": "AuditEvent", "id": str(uuid.uuid5(_NAMESPACE, _name(leaf, parties)))}
    if interaction:
        event["meta"] = {"profile": [f"{_PROFILE}{interaction.capitalize()}"]}
    event["type"] = kind
    if interaction:
        event["subtype"] = [{"system": _INTERACTION, "code": interaction, "display": interaction}]
    coordinator = _agent(parties.coordinator, "urn:fedforget:coordinator", f"https://{parties.coordinator}")
    site = _agent(parties.site, "urn:fedforget:site", f"urn:fedforget:site:{parties.site}")
    # Without the coordinator the site acts on its own data, as client and server in one.
    client, server = (coordinator, site) if pattern.from_coordinator else (site, site)

    return event | {
        "action": "C" if interaction == "create" else pattern.action,
        "recorded": leaf.entry.time,
        "outcome": pattern.outcome,
        "outcomeDesc": leaf.entry.kind,
        "agent": [
            {"type": _concept(_DCM, "110153", "Source Role ID"), **client},
            {"type": _concept(_DCM, "110152", "Destination Role ID"), **server},
        ],
        "source": {
            "site": parties.site,
            "observer": {"identifier": {"system": "urn:fedforget:site", "value": parties.site}},
            "type": [_coding(_SOURCE_TYPE, "4", "Application Server")],
        },
        "entity": [*_data(leaf, revocation, parties)],
    }


def _about(event: Resource, number: int, patient: str, interaction: str) -> Resource:
    """A separate event about one of several patients."""
    # The patterns of BALP with a patient take exactly one.
    entity = {
        "what": {"type": "Patient", "identifier": {"value": patient}},
        "type": _coding(_ENTITY_TYPE, "1", "Person"),
        "role": _coding(_ROLE, "1", "Patient"),
    }
    event_of_patient = {**event, "id": str(uuid.uuid5(_NAMESPACE, f"{event['id']}/{number}"))}
    if interaction:
        event_of_patient["meta"] = {"profile": [f"{_PROFILE}Patient{interaction.capitalize()}"]}
    return event_of_patient | {"entity": [*event["entity"], entity]}


def _data(leaf: Leaf, revocation: Revocation | None, parties: Parties) -> Iterator[Resource]:
    """What the event is about; the leaf itself if the log has nothing more."""
    value = _plain(leaf.document)

    if revocation is not None:
        about = _system_object("urn:fedforget:receipt", revocation.request, "Consent")
        yield about | {
            "detail": [
                {"type": "kind", "valueString": revocation.kind},
                {"type": "legal-basis", "valueString": revocation.legal_basis},
            ]
        }
    elif "receipt" in value:
        yield _system_object("urn:fedforget:receipt", str(value["receipt"]), "Consent")
    elif "weights" in value:
        yield _system_object("urn:fedforget:weights:sha256", str(value["weights"]))
    else:
        yield _system_object(f"urn:fedforget:log:site:{parties.site}", str(leaf.position))

    if "campaign" in value:
        detail = [{"type": "patients", "valueString": str(value["patients"])}] if "patients" in value else []
        purge_counts = value.get("purged")
        counts = sorted(purge_counts.items()) if isinstance(purge_counts, dict) else []
        detail += [{"type": f"purged-{name}", "valueString": str(count)} for name, count in counts]
        yield {
            "what": {"identifier": {"system": "urn:fedforget:campaign", "value": str(value["campaign"])}},
            "type": _coding(_ENTITY_TYPE, "4", "Other"),
            "role": _coding(_ROLE, "20", "Job"),
            **({"detail": detail} if detail else {}),
        }


def _system_object(system: str, value: str, kind: str | None = None) -> Resource:
    reference = {"identifier": {"system": system, "value": value}}
    return {
        "what": reference if kind is None else {"type": kind, **reference},
        "type": _coding(_ENTITY_TYPE, "2", "System Object"),
        "role": _coding(_ROLE, "4", "Domain Resource"),
    }


def _agent(name: str, system: str, address: str) -> Resource:
    return {
        "who": {"identifier": {"system": system, "value": name}},
        "requestor": False,
        "network": {"address": address, "type": _URI},
    }


def _coding(system: str, code: str, display: str) -> Resource:
    return {"system": system, "code": code, "display": display}


def _concept(system: str, code: str, display: str) -> Resource:
    return {"coding": [_coding(system, code, display)]}


def _name(leaf: Leaf, parties: Parties) -> str:
    return f"{parties.site}/{leaf.position}/{leaf.entry.commitment}"


def _revocation(leaf: Leaf) -> Revocation | None:
    if leaf.entry.kind != "revocation" or leaf.document is None:
        return None
    try:
        # A record of an older version may not fit: the event is written without its details.
        return read_revocation(leaf.document)
    except EvidenceError:
        return None


def _plain(document: bytes | None) -> dict[str, Json]:
    value = None if document is None else parse_canonical(document)
    return value if isinstance(value, dict) else {}
