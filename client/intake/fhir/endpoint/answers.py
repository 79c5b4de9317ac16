"""What the endpoint says: FHIR resources that never quote what came in."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from client.intake.fhir.decisions.doubts import Counts
from client.intake.fhir.store.values import Kept
from common.installation import own_version


def outcome(code: str, text: str) -> dict[str, Any]:
    """An OperationOutcome with one error; `code` is of https://hl7.org/fhir/valueset-issue-type.html."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": code, "diagnostics": text}],
    }


def receipt(kept: Kept, counts: Counts | None = None) -> dict[str, Any]:
    """The receipt of a version that is on the disk.

    A withdrawal's says whether its patient is known here. That of any other version is the same for every patient, so
    that nobody can ask who takes part without stopping their use, which is on the record.
    """
    numbers = {} if counts is None else asdict(counts)
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "receipt", "valueString": kept.receipt},
            {"name": "received", "valueInstant": _instant(kept.received)},
            *({"name": name, "valueInteger": number} for name, number in numbers.items()),
        ],
    }


def capability_statement(now: datetime) -> dict[str, Any]:
    """What the endpoint does (https://hl7.org/fhir/R4/capabilitystatement.html).

    Versions are the sender's: the endpoint tells repeats apart by them, gives out none, and has neither ETag, If-Match,
    vread nor history, which R4 and R5 both call `no-version`.
    """
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _instant(now),
        "kind": "instance",
        "software": {"name": "FedForget", "version": own_version()},
        "implementation": {"description": "Takes revocations of consent to federated training"},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "documentation": "Consents of R4, R4B and R5 are taken, each with 200 and a receipt (Parameters); one "
                "without an id is given one by its content, with 201 and its Location. Nothing can be read back. "
                "If-Match and If-None-Exist are not looked at: the same content is never taken twice.",
                "security": {"description": "Mutual TLS, a bearer token, or both, as the site has set it"},
                "resource": [
                    {
                        "type": "Consent",
                        "interaction": [{"code": "create"}, {"code": "update"}],
                        "versioning": "no-version",
                        "readHistory": False,
                        "updateCreate": True,
                        "operation": [
                            {
                                "name": "revokeConsent",
                                "definition": "http://hl7.org/fhir/us/consent-management/OperationDefinition/revokeConsent",
                            }
                        ],
                    }
                ],
            }
        ],
    }


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
