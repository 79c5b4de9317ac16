"""What comes in by FHIR, read as far as it is needed: one Consent, a notification, the parameters of a revocation.

Of a Consent only what the rule weighs is kept: no name, no text, no reference to a person.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote

from client.consent.documents import VersionId, read_version
from client.consent.fields import UnreadableConsentError
from client.intake.fhir.pull.links import rest_below
from client.intake.fhir.strict_json import UnusableResourceError
from common.learning.data.identifiers.identifiers import IdentifierError, normal

Resource: TypeAlias = Mapping[str, Any]
Interaction: TypeAlias = Literal["create", "update", ""]

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
"""https://hl7.org/fhir/R5/datatypes.html#id"""
_EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
"""Between which a server may have written a version."""
_CONDITIONAL = "Patient?identifier="
"""https://hl7.org/fhir/R4/http.html#trules, as the entries of a transaction name a patient by number."""
_LONGEST_KEY = 400
"""Characters of an identifier with its system."""
_INSIDE = {"meta", "scope", "category", "policy", "policyRule", "policyBasis", "provision", "period", "code", "coding"}
_INSIDE |= {"purpose", "action", "securityLabel"}
_TEXTS = {"resourceType", "id", "versionId", "lastUpdated", "status", "system", "code", "uri", "type", "start", "end"}
_TEXTS |= {"dateTime", "date", "decision", "url"}


@dataclass(frozen=True, slots=True)
class IncomingConsent:
    """One version of a Consent as it came in.

    Attributes:
        document: what the rule weighs of it.
        digest: SHA-256 of all of it.
        patients: names of the one patient, as the FHIR server knows them: a logical id, then `system|value` of each
            identifier; empty if nobody can tell.
        interaction: by which a system handed it in; empty where this site read it itself, or was notified.
    """

    resource: str
    version: str
    updated: datetime | None
    status: str
    digest: str
    document: dict[str, Any] = field(repr=False)
    patients: tuple[str, ...] = field(repr=False)
    interaction: Interaction = ""


@dataclass(frozen=True, slots=True)
class RevokeRequest:
    """Parameters of `$revokeConsent`; `patients` as in `IncomingConsent`."""

    consent: str
    patients: tuple[str, ...] = field(repr=False)


def read_incoming(resource: Resource, *bases: str) -> IncomingConsent:
    """Read a Consent; one whose rules cannot be read is taken too, as the rule answers Unknown to it.

    Args:
        resource: as `parse_json` gives it.
        bases: addresses of the hospital's FHIR server, whose absolute references are as good as relative ones.

    Raises:
        UnusableResourceError: no Consent, or without a proper id.
    """
    identity = resource.get("id")
    if resource.get("resourceType") != "Consent" or not isinstance(identity, str) or not is_id(identity):
        raise UnusableResourceError("not a Consent with an id as FHIR allows it")
    try:
        version = read_version(resource)
    except UnreadableConsentError:
        version = VersionId(identity, "", None)

    status = resource.get("status")
    document = weighed(resource)
    update_time = version.last_update

    if update_time is not None and not _EARLIEST <= update_time <= _LATEST:
        # A slip of somebody's pen, which would come before or after everything: its arrival takes its place.
        update_time = None
        document["meta"] = {name: value for name, value in document["meta"].items() if name != "lastUpdated"}

    return IncomingConsent(
        identity,
        version.number if is_id(version.number) else "",
        update_time,
        status if isinstance(status, str) and len(status) <= 64 and status.isprintable() else "",
        # Of the whole resource: a version in which only unweighed parts differ is another text all the same.
        hashlib.sha256(json.dumps(resource, sort_keys=True).encode()).hexdigest(),
        document,
        persons_of(resource, *bases),
    )


def persons_of(resource: Resource, *bases: str) -> tuple[str, ...]:
    """Whose consent it is, by each of the patient's names; see `IncomingConsent`."""
    return _person(resource.get("patient", resource.get("subject")), bases, resource.get("contained"))


def is_id(value: object) -> bool:
    """Is this a FHIR id? Neither `.` nor `..`, which the pattern allows and which an address takes for a folder."""
    return isinstance(value, str) and bool(_ID.fullmatch(value)) and bool(value.strip("."))


def with_id(resource: Resource) -> dict[str, Any]:
    """A Consent that was sent without an id, as FHIR's create does, with one that its content gives it.

    The same content has the same id, so that a request that is sent again creates nothing. What a server would have
    written, `meta`, is left out.

    Raises:
        UnusableResourceError: no Consent.
    """
    if resource.get("resourceType") != "Consent":
        raise UnusableResourceError("not a Consent")
    content = {name: value for name, value in resource.items() if name not in ("id", "meta", "text")}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    return {**content, "id": f"created-{digest[:48]}"}


def weighed(resource: Resource) -> dict[str, Any]:
    """The elements that the rule weighs; of all others the name alone, which may tell R4 from R5."""
    return {name: _kept(name, value) for name, value in resource.items()}


def _weighed_basis(basis: Resource) -> dict[str, Any]:
    """R5 names a policy by a URL, or by a reference to it, which may be by identifier."""
    weighed_basis = weighed(basis)
    reference = basis.get("reference")

    if isinstance(reference, dict):
        identifier = reference.get("identifier")
        reference_only = {"reference": reference.get("reference")}
        if isinstance(identifier, dict):
            reference_only["identifier"] = {"value": identifier.get("value")}
        weighed_basis["reference"] = {
            name: value for name, value in reference_only.items() if isinstance(value, str | dict)
        }

    return weighed_basis


def notified(resource: Resource) -> tuple[Resource, ...]:
    """Consents that a subscription's notification carries, which may be none.

    A Consent itself (R4 rest-hook with a payload), or a Bundle whose first entry is the status of a topic-based
    subscription: `SubscriptionStatus` in R5, `Parameters` in the backport to R4.

    Raises:
        UnusableResourceError: neither.
    """
    kind = resource.get("resourceType")
    if kind == "Consent":
        return (resource,)
    if kind == "Bundle" and resource.get("type") in ("subscription-notification", "history"):
        resources = tuple(resources_in(resource))
        if resources and resources[0].get("resourceType") in ("SubscriptionStatus", "Parameters"):
            return tuple(entry for entry in resources[1:] if entry.get("resourceType") == "Consent")

    raise UnusableResourceError("neither a Consent nor a notification of a subscription")


def resources_in(bundle: Resource) -> Iterator[Resource]:
    """The resources of a Bundle's entries.

    Raises:
        UnusableResourceError: its entries are not a list of objects.
    """
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        raise UnusableResourceError("the entries of a Bundle are not a list")
    for entry in entries:
        if not isinstance(entry, dict):
            raise UnusableResourceError("an entry of a Bundle is not an object")
        resource = entry.get("resource")
        if isinstance(resource, dict):
            yield resource


def read_revoke_request(resource: Resource, *bases: str) -> RevokeRequest:
    """Parameters `consent` and `patient`, each a reference (HL7 FAST, Scalable Consent Management).

    Raises:
        UnusableResourceError: one of them is missing or not to be understood.
    """
    items = resource.get("parameter")
    if resource.get("resourceType") != "Parameters" or not isinstance(items, list):
        raise UnusableResourceError("not Parameters")
    values = {
        item["name"]: item.get("valueReference")
        for item in items
        if isinstance(item, dict) and isinstance(item.get("name"), str)
    }
    patients = _person(values.get("patient"), bases)
    consent = _target(values.get("consent"), "Consent", bases)
    if consent is None or not patients:
        raise UnusableResourceError("the parameters consent and patient must be references to one of each")
    return RevokeRequest(consent, patients)


def _person(value: object, bases: Sequence[str], contained: object = None) -> tuple[str, ...]:
    """The logical id of a reference to this server, then `system|value` of the identifiers beside it.

    A reference that only its sender can follow, such as `urn:uuid:`, one to another server or to a contained Patient,
    leaves the identifiers, also those of that Patient. A conditional one (`Patient?identifier=system|value`) is one.
    """
    if not isinstance(value, dict):
        return ()
    logical = _target(value, "Patient", bases)
    reference = _relative(value.get("reference"), bases)
    identifiers = [value.get("identifier")]
    if reference.startswith("#"):
        identifiers += _identifiers_of(contained, reference[1:])
    if reference.startswith(_CONDITIONAL):
        system, _, number = unquote(reference.removeprefix(_CONDITIONAL)).rpartition("|")
        identifiers.append({"system": system, "value": number})
    keys = [logical, *(_identifier(one) for one in identifiers)]

    return tuple(dict.fromkeys(key for key in keys if key is not None))


def _identifiers_of(contained: object, identity: str) -> list[object]:
    """Those of a contained resource."""
    inner = [one for one in contained if isinstance(one, dict)] if isinstance(contained, list) else []
    lists = [one.get("identifier") for one in inner if one.get("id") == identity]
    return [identifier for some in lists if isinstance(some, list) for identifier in some]


def _identifier(value: object) -> str | None:
    if not isinstance(value, dict):
        return None
    system = value.get("system", "")
    number = value.get("value")
    if not isinstance(system, str) or not isinstance(number, str):
        return None
    try:
        key = f"{system.strip()}|{normal(number, shortened=True)}"
    except IdentifierError:
        return None

    return key if len(key) <= _LONGEST_KEY and key.isprintable() else None


def _target(value: object, kind: str, bases: Sequence[str]) -> str | None:
    """The id in a reference to a resource of a kind, on this server."""
    reference = value.get("reference") if isinstance(value, dict) else None
    parts = _relative(reference, bases).split("/")
    # A reference to one version of a resource is one to the resource.
    if parts[2:3] == ["_history"]:
        parts = parts[:2]
    return parts[1] if len(parts) == 2 and parts[0] == kind and is_id(parts[1]) else None


def _relative(reference: object, bases: Sequence[str]) -> str:
    """A reference without the address of this server in front; empty if there is none."""
    if not isinstance(reference, str):
        return ""
    if "://" not in reference:
        return reference
    rests = (rest_below(reference, base) for base in bases if base)
    return next((rest.removeprefix("/") for rest in rests if rest is not None), reference)


def _kept(name: str, value: Any) -> Any:
    if name == "policyBasis" and isinstance(value, dict):
        return _weighed_basis(value)
    if name in _INSIDE and isinstance(value, dict):
        return weighed(value)
    if name in _INSIDE and isinstance(value, list):
        return [weighed(item) if isinstance(item, dict) else None for item in value]
    return value if name in _TEXTS and isinstance(value, str) else None
