"""Consents that cannot be handled: each is kept as one that nobody can judge, so that its patient is on hold.

What is kept of it is its name, its patient, and whether it is about another matter. If it is not, the rule answers
Unknown: use stops at once, it is on the steward's list, and it lasts until the steward decides or a later version of
the same consent can be read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from client.consent.broad_consent import USE_FOR_RESEARCH
from client.consent.consent_topic import topic_of
from client.consent.documents import SCOPES
from client.consent.other_statement import of_unreadable
from client.consent.provisions import Question
from client.consent.verdicts import Silent
from client.intake.fhir.resources import IncomingConsent, Resource, is_id, persons_of, read_incoming

A = TypeVar("A")
_UNREADABLE = "set-aside"
"""A status that no version of FHIR has."""
_RESEARCH = {"coding": [{"system": SCOPES, "code": "research"}]}
_TREATMENT = {"coding": [{"system": SCOPES, "code": "treatment"}]}


def set_aside(resource: Resource, *bases: str) -> IncomingConsent:
    """A stand-in for a Consent as it came in.

    One without a proper id gets a name made of whatever stands for it, so that it is the same one the next time.
    """
    text = _or(lambda: json.dumps(resource, sort_keys=True, default=str), str(sorted(resource)))
    digest = hashlib.sha256(text.encode("ascii", "replace")).hexdigest()
    identity = resource.get("id")
    if not is_id(identity):
        key = f"id:{identity}" if identity and isinstance(identity, str | int) else f"content:{digest}"
        identity = f"unusable-{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()[:32]}"

    meta = resource.get("meta")
    parts = {name: text for name, text in meta.items() if isinstance(text, str)} if isinstance(meta, dict) else {}
    incoming = read_incoming({"resourceType": "Consent", "id": identity, "meta": parts})
    patients: tuple[str, ...] = _or(lambda: persons_of(resource, *bases), ())
    scope = _or(lambda: _scope(resource), _RESEARCH)
    document = {**_document(incoming.resource, incoming.version, incoming.updated), "scope": scope}

    return IncomingConsent(incoming.resource, incoming.version, incoming.updated, "", digest, document, patients)


def _or(look: Callable[[], A], otherwise: A) -> A:
    """What can be seen of a resource that may hold anything, however it is nested."""
    try:
        return look()
    except Exception:  # noqa: BLE001 - a stand-in is made of everything
        return otherwise


def stripped(incoming: IncomingConsent) -> IncomingConsent:
    """The stand-in for one that was read, and that the database does not take or the rule cannot weigh."""
    document = _document(incoming.resource, incoming.version, incoming.updated)
    return dataclasses.replace(incoming, status="", document=document)


def _scope(resource: Resource) -> dict[str, Any]:
    """Of a stand-in: research, unless it is known to be about another matter, which holds nobody."""
    statement = of_unreadable(resource, topic_of(resource), Question(USE_FOR_RESEARCH, None, None), "")
    return _TREATMENT if isinstance(statement, Silent) else _RESEARCH


def _document(identity: str, version: str, updated: datetime | None) -> dict[str, Any]:
    meta = {"versionId": version} if version else {}
    return {
        "resourceType": "Consent",
        "id": identity,
        "meta": meta if updated is None else {**meta, "lastUpdated": updated.isoformat(timespec="milliseconds")},
        "status": _UNREADABLE,
        "scope": _RESEARCH,
        "patient": None,
    }
