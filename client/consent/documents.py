"""FHIR Consent resources, R4, R4B and R5, read into one form that the rule can weigh.

https://hl7.org/fhir/R4/consent.html and https://hl7.org/fhir/R5/consent.html. Code lists are checked here: a resource
may be valid JSON, pass a model, and still say something that no version of FHIR knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from client.consent.fields import UnreadableConsentError, object_of, objects_of, text_of

_R4_STATUS = {"draft", "proposed", "active", "rejected", "inactive", "entered-in-error"}
_R5_STATUS = {"draft", "active", "inactive", "not-done", "entered-in-error", "unknown"}
_R4_MARKS = {"scope", "policy", "policyRule", "dateTime", "patient", "performer", "organization"}
_R5_MARKS = {"decision", "subject", "date", "period", "policyBasis", "grantor", "grantee", "controller", "manager"}
# What the rule weighs of a provision, and what leaves it in doubt. Any other element makes the consent unreadable.
_WEIGHED = {"id", "extension", "type", "period", "purpose", "code", "provision"}
_NOT_WEIGHED = {"actor", "action", "securityLabel", "class", "documentType", "resourceType", "dataPeriod", "data"}
_NOT_WEIGHED |= {"expression", "modifierExtension"}
SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"
_SCOPE_CODES = {"research", "patient-privacy", "treatment", "adr"}
_ACT_CODES = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
REVOKED = "_revoked"
"""Added to a version that a request made of an earlier one, to revoke it."""
TWO_PATIENTS = "_twoPatients"
"""Added to a version whose reference and identifier are two patients here."""
_ALWAYS = datetime.min.replace(tzinfo=UTC)
_FOREVER = datetime.max.replace(tzinfo=UTC)
_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Coding:
    """A code and the system that defines it."""

    system: str
    code: str


@dataclass(frozen=True, slots=True)
class Span:
    """First and last instant of a FHIR date, which may be as coarse as a year, or of a Period."""

    first: datetime = _ALWAYS
    last: datetime = _FOREVER

    def holds(self, at: datetime) -> bool:
        """Whether `at` lies within."""
        return self.first <= at <= self.last


@dataclass(frozen=True, slots=True)
class Provision:
    """One rule. No codes or purposes means all of them.

    Attributes:
        permits: what it says, or None where it says nothing itself.
        conditions: names of limits that the rule does not weigh, such as `actor`.
        labels: codings of `action` and `securityLabel`, where some systems write a purpose.
        exceptions: to it, by provisions within it.
    """

    permits: bool | None
    period: Span
    codes: tuple[Coding, ...]
    purposes: tuple[Coding, ...]
    conditions: tuple[str, ...]
    exceptions: tuple[Provision, ...]
    labels: tuple[Coding, ...] = ()


@dataclass(frozen=True, slots=True)
class ConsentDocument:
    """One version of one consent.

    Attributes:
        status: code of its FHIR version.
        signing_date: when the patient decided; None if not said.
        last_update: when this version was written; None if not said.
        root: its rules.
    """

    status: str
    signing_date: Span | None
    last_update: datetime | None
    root: Provision


@dataclass(frozen=True, slots=True)
class VersionId:
    """Which version of which resource: `meta.versionId` (may be empty) and `meta.lastUpdated`."""

    resource: str
    number: str
    last_update: datetime | None


def read_version(resource: Mapping[str, Any]) -> VersionId:
    """Id and version of a Consent, or an `UnreadableConsentError`; reads nothing else."""
    if text_of(resource, "resourceType") != "Consent":
        raise UnreadableConsentError("not a Consent")
    meta = object_of(resource, "meta")
    last_update = text_of(meta, "lastUpdated")
    if not (identity := text_of(resource, "id")):
        raise UnreadableConsentError("a Consent without an id")
    return VersionId(identity, text_of(meta, "versionId"), read_date(last_update).last if last_update else None)


def read_consent(resource: Mapping[str, Any]) -> ConsentDocument:
    """Read a parsed Consent of R4, R4B or R5, or raise an `UnreadableConsentError`."""
    version = read_version(resource)
    # FHIR: who does not understand a modifier must not rely on the resource.
    for name in ("modifierExtension", "implicitRules"):
        if name in resource:
            raise UnreadableConsentError(f"{name} may change the meaning and is not understood")

    if TWO_PATIENTS in resource:
        raise UnreadableConsentError("its reference and its identifier are two patients of the cohort")
    r5 = _is_r5(resource)
    status = text_of(resource, "status")
    if status not in (_R5_STATUS if r5 else _R4_STATUS):
        raise UnreadableConsentError("a status that this version of FHIR does not have")
    signature_date = text_of(resource, "date" if r5 else "dateTime")
    _check_basis(resource, r5)

    return ConsentDocument(
        status,
        read_date(signature_date) if signature_date else None,
        version.last_update,
        _r5_root(resource) if r5 else _r4_root(resource),
    )


def read_date(text: str) -> Span:
    """Span of a FHIR date, dateTime or instant; one without a zone is taken as UTC days."""
    try:
        if _INSTANT.fullmatch(text):
            moment = datetime.fromisoformat(text)
            return Span(moment, moment)

        if match := _DATE.fullmatch(text):
            year, month, day = (int(part) if part else None for part in match.groups())
            first = datetime(year or 0, month or 1, day or 1, tzinfo=UTC)
            return Span(first, _end(first, month, day))
    except ValueError:
        pass

    raise UnreadableConsentError("a date that FHIR does not define or no calendar has")


def _end(first: datetime, month: int | None, day: int | None) -> datetime:
    """Last instant of the day, month or year that begins at `first`; the end of time has no next day."""
    if first.year == datetime.max.year:
        return _FOREVER
    if day:
        after = first + timedelta(days=1)
    elif month:
        after = first.replace(year=first.year + month // 12, month=month % 12 + 1)
    else:
        after = first.replace(year=first.year + 1)

    return after - timedelta(microseconds=1)


def _is_r5(resource: Mapping[str, Any]) -> bool:
    r4 = bool(_R4_MARKS & resource.keys()) or isinstance(resource.get("provision"), dict)
    r5 = bool(_R5_MARKS & resource.keys()) or isinstance(resource.get("provision"), list)
    # With elements of both versions, or of neither, nobody knows which rules apply.
    if r4 == r5:
        raise UnreadableConsentError("neither a Consent of R4 nor one of R5")
    return r5


def _check_basis(resource: Mapping[str, Any], r5: bool) -> None:
    """R4 must have a scope that is known, and what names a policy must be text; `consent_topic` reads both."""
    if not r5:
        codings = _codings(object_of(resource, "scope"))
        if not any(coding.system == SCOPES and coding.code in _SCOPE_CODES for coding in codings):
            raise UnreadableConsentError("no scope that is known")

    for policy in objects_of(resource, "policyBasis" if r5 else "policy", one=r5):
        for name in ("uri", "url"):
            # For the check alone: it raises unless the field is text.
            text_of(policy, name)


def _r4_root(resource: Mapping[str, Any]) -> Provision:
    root = _r4_provision(object_of(resource, "provision"), is_root=True)
    if root.permits is not None:
        return root
    # R4: the base rule that provisions are exceptions to.
    base = {coding.code for coding in _codings(object_of(resource, "policyRule")) if coding.system == _ACT_CODES}
    # Several base rules contradict each other, and decide nothing.
    permits = {"OPTIN": True, "OPTOUT": False}.get(base.pop()) if len(base) == 1 else None

    return Provision(permits, root.period, root.codes, root.purposes, root.conditions, root.exceptions)


def _r4_provision(value: Mapping[str, Any], *, is_root: bool = False) -> Provision:
    kind = text_of(value, "type")
    if kind not in ("permit", "deny") and not (is_root and not kind):
        raise UnreadableConsentError("a provision that neither permits nor denies")
    exceptions_inside = tuple(_r4_provision(inner) for inner in objects_of(value, "provision"))
    return _provision(value, kind == "permit" if kind else None, exceptions_inside)


def _r5_root(resource: Mapping[str, Any]) -> Provision:
    decision = text_of(resource, "decision")
    exceptions = objects_of(resource, "provision")
    if decision not in ("permit", "deny") and (decision or exceptions):
        raise UnreadableConsentError("no decision to which the provisions could be exceptions")
    permits = decision == "permit" if decision else None
    exceptions_inside = tuple(_r5_provision(inner, permits=not permits) for inner in exceptions)

    return Provision(permits, _period(resource), (), (), (), exceptions_inside)


def _r5_provision(value: Mapping[str, Any], *, permits: bool) -> Provision:
    """In R5 a provision has no type: it is an exception to the level above and so says the opposite."""
    if "type" in value:
        raise UnreadableConsentError("a type in a provision, which R5 does not have")
    exceptions_inside = tuple(_r5_provision(inner, permits=not permits) for inner in objects_of(value, "provision"))
    return _provision(value, permits, exceptions_inside)


def _provision(value: Mapping[str, Any], permits: bool | None, exceptions: tuple[Provision, ...]) -> Provision:
    conditions = value.keys() - _WEIGHED
    if conditions - _NOT_WEIGHED:
        raise UnreadableConsentError("a provision with an element that FHIR does not define")
    return Provision(
        permits,
        _period(value),
        tuple(coding for concept in objects_of(value, "code") for coding in _some(_codings(concept))),
        tuple(_coding(item) for item in objects_of(value, "purpose")),
        tuple(sorted(conditions)),
        exceptions,
        _labels(value),
    )


def _labels(value: Mapping[str, Any]) -> tuple[Coding, ...]:
    """As far as they can be read: what is not weighed makes nothing else unreadable."""
    labels = []
    for name in ("action", "securityLabel"):
        items = value.get(name)
        for item in items if isinstance(items, list) else []:
            codings = item.get("coding", [item]) if isinstance(item, dict) else None
            for coding in codings if isinstance(codings, list) else []:
                system, code = (coding.get("system"), coding.get("code")) if isinstance(coding, dict) else (None, None)
                if isinstance(system, str) and isinstance(code, str):
                    labels.append(Coding(system, code))

    return tuple(labels)


def _some(codings: tuple[Coding, ...]) -> tuple[Coding, ...]:
    if not codings:
        # Passed over, it would leave a provision without codes, which is about everything.
        raise UnreadableConsentError("a provision's code in words alone")
    return codings


def _period(value: Mapping[str, Any]) -> Span:
    period = object_of(value, "period")
    start = text_of(period, "start")
    end = text_of(period, "end")
    # A period that is given by days or years begins with their first instant and ends with their last.
    return Span(read_date(start).first if start else _ALWAYS, read_date(end).last if end else _FOREVER)


def _codings(concept: Mapping[str, Any]) -> tuple[Coding, ...]:
    return tuple(_coding(item) for item in objects_of(concept, "coding"))


def _coding(value: Mapping[str, Any]) -> Coding:
    system = text_of(value, "system")
    code = text_of(value, "code")
    if not (system and code):
        raise UnreadableConsentError("a coding without system or code")
    return Coding(system, code)
