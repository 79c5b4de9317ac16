"""May a patient's data be used? The one pure function that answers, from all consents known of the patient.

Two mistakes are worth everything here: to use data of someone who withdrew, and to unlearn, which cannot be undone,
someone who did not. So a `Permit` needs every doubt gone, a `Deny` needs a decision of the patient, and what lies
between is `Unknown`: it blocks use as well, and goes to a steward.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from client.consent.consent_document import (
    Coding,
    ConsentDocument,
    Provision,
    Scope,
    UnreadableConsentError,
    read_consent,
)
from client.consent.consent_versions import newest_versions
from client.consent.mii_broad_consent import BROADER, Form, form_of


@dataclass(frozen=True, slots=True)
class Permit:
    """Use is permitted."""


@dataclass(frozen=True, slots=True)
class Deny:
    """The patient decided against it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Not permitted, but no decision against it either: for a steward."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Lapsed:
    """A permission that is over or has not begun."""


@dataclass(frozen=True, slots=True)
class _Question:
    policy_code: Coding
    purpose: Coding | None
    at: datetime


SILENT = Unknown("no consent speaks of this")
"""Of a patient whose consents are about other things: nothing to doubt, and nothing to rely on."""

Answer: TypeAlias = Permit | Deny | Unknown
_Verdict: TypeAlias = Answer | _Lapsed | None
"""None: nothing is said about what was asked."""

_PARTS = (Form.ADD_ON, Form.PARTIAL_WITHDRAWAL)
_BY_FORM: dict[Form | None, Answer] = {
    Form.FULL_WITHDRAWAL: Deny("the consent was withdrawn in full"),
    Form.REFUSAL: Deny("the patient refused"),
    Form.UNKNOWN: Unknown("a form of the broad consent that is not known"),
}
_BY_STATUS: dict[str, Answer] = {
    "rejected": Deny("the patient refused"),
    "entered-in-error": Unknown("a consent was entered in error, which is no withdrawal"),
    "not-done": Unknown("a consent was not completed"),
    "unknown": Unknown("a consent of unknown status"),
}


def permitted(
    consents: Iterable[Mapping[str, Any]], policy_code: Coding, purpose: Coding | None, at: datetime
) -> Answer:
    """Weigh all `consents` of one patient; their order does not matter.

    Args:
        consents: parsed FHIR Consent resources (R4, R4B, R5), all versions of all documents that are known, including
            those of records merged into this patient's.
        policy_code: what is to be done, such as `mii_broad_consent.USE_FOR_RESEARCH`.
        purpose: what for (`v3-ActReason`), compared exactly; None if no purpose is claimed, which meets only
            provisions that name none.
        at: when, with a zone. A decision against use counts from when it is known, whatever its own date.
    """
    question = _Question(policy_code, purpose, at)
    templates: dict[object, list[ConsentDocument]] = {}
    try:
        in_order = sorted(consents, key=lambda resource: json.dumps(resource, sort_keys=True))
        for document in map(read_consent, newest_versions(in_order)):
            if document.scope is Scope.RESEARCH and document.status not in ("draft", "proposed"):
                templates.setdefault(_template(document), []).append(document)
    except UnreadableConsentError as err:
        return Unknown(f"a consent cannot be read: {err}")
    except RecursionError:
        return Unknown("a consent cannot be read: nested too deeply")
    return _across_templates([_of_template(documents, question) for documents in templates.values()])


def _template(document: ConsentDocument) -> object:
    """Documents of one template replace each other: the same policies, or any forms of the broad consent."""
    return "mii-broad-consent" if form_of(document.policies) else document.policies


def _across_templates(decisions: Sequence[tuple[datetime | None, _Verdict]]) -> Answer:
    """All permit, or the newest denies; anything else is for a steward."""
    answers = [(signed, answer) for signed, answer in decisions if isinstance(answer, Permit | Deny | Unknown)]
    if not answers:
        lapsed = any(isinstance(verdict, _Lapsed) for _, verdict in decisions)
        return Unknown("consent is not in force at this time") if lapsed else SILENT
    if all(isinstance(answer, Permit) for _, answer in answers):
        return Permit()
    newest = max((signed for signed, _ in answers if signed is not None), default=None)
    last = [answer for signed, answer in answers if signed in (None, newest)]
    doubts = [answer for _, answer in answers if isinstance(answer, Unknown)]
    ranked: list[Answer] = [*(answer for answer in last if isinstance(answer, Deny)), *doubts]
    return ranked[0] if ranked else Unknown("a consent to something else was withdrawn")


def _of_template(documents: Sequence[ConsentDocument], question: _Question) -> tuple[datetime | None, _Verdict]:
    """When the deciding document was signed, and what it says."""
    if any(document.signed is None for document in documents):
        if all(document.status == "inactive" for document in documents):
            return None, Deny("the consent was withdrawn")
        return None, Unknown("a consent without a date, so that nobody knows which is the last")
    older = sorted(documents, key=_signed, reverse=True)
    lapsed = False
    while older:
        newest = _signed(older[0])
        # A day and an hour of that day cannot be ordered: both are the last word.
        last = [document for document in older if document.signed and document.signed.last >= newest]
        older = [document for document in older if document not in last]
        verdict = _agreed([_of_document(document, question) for document in last])
        if newest > question.at and not isinstance(verdict, Deny | Unknown):
            lapsed = True
        elif verdict is not None or not all(form_of(document.policies) in _PARTS for document in last):
            if isinstance(verdict, Permit) and any(_withdrawn_since(document, newest) for document in older):
                verdict = Unknown("an older consent was withdrawn after a newer one had been signed")
            return newest, verdict
    return None, _Lapsed() if lapsed else None


def _signed(document: ConsentDocument) -> datetime:
    if document.signed is None:
        raise UnreadableConsentError("a consent without a date")
    return document.signed.first


def _agreed(verdicts: Sequence[_Verdict]) -> _Verdict:
    """The verdict of documents of which none is the newer."""
    kinds = {type(verdict) for verdict in verdicts}
    if {Permit, Deny} <= kinds:
        return Unknown("one consent permits and another of the same time denies")
    return _strictest(verdicts)


def _withdrawn_since(document: ConsentDocument, moment: datetime) -> bool:
    return document.status == "inactive" and (document.updated is None or document.updated >= moment)


def _of_document(document: ConsentDocument, question: _Question) -> _Verdict:
    form = form_of(document.policies)
    if document.status == "inactive":
        if form in (None, Form.CONSENT):
            return Deny("the consent was withdrawn")
        return Unknown("a withdrawal, a refusal or an addition is itself no longer active")
    if document.status != "active":
        return _BY_STATUS[document.status]
    if form in _BY_FORM:
        return _BY_FORM[form]
    if form in _PARTS:
        return _of_part(document, form is Form.PARTIAL_WITHDRAWAL, question)
    return _weigh(document.root, question) if document.root.period.holds(question.at) else _Lapsed()


def _of_part(document: ConsentDocument, is_withdrawal: bool, question: _Question) -> _Verdict:
    """Only what it names counts: its base rule, which denies all else, must not undo an older consent to all else."""
    if is_withdrawal and not document.root.nested:
        return Unknown("a partial withdrawal that does not say of what")
    named = [_weigh(inner, question) for inner in document.root.nested]
    return _strictest([verdict for verdict in named if not (is_withdrawal and isinstance(verdict, Permit | _Lapsed))])


def _weigh(provision: Provision, question: _Question) -> _Verdict:
    """The deepest provision that fits wins; among neighbours the strictest."""
    if not _fits(provision, question):
        return None
    if not provision.period.holds(question.at):
        # What ended is a permission, not the patient's will: the base rule's denial must not pass for a withdrawal.
        return _Lapsed() if provision.permits else None
    if provision.conditions:
        return Unknown(f"a provision depends on {', '.join(provision.conditions)}, which is not weighed")
    deeper = _strictest([_weigh(inner, question) for inner in provision.nested])
    if deeper is not None or provision.permits is None:
        return deeper
    return Permit() if provision.permits else Deny("a provision denies it")


def _fits(provision: Provision, question: _Question) -> bool:
    if provision.purposes and question.purpose not in provision.purposes:
        return False
    codes = {question.policy_code}
    if provision.permits is False:
        codes |= BROADER.get(question.policy_code, frozenset())
    return not provision.codes or not codes.isdisjoint(provision.codes)


def _strictest(verdicts: Sequence[_Verdict]) -> _Verdict:
    """A permission in force outweighs a lapsed one, which it renews."""
    for kind in (Deny, Unknown, Permit, _Lapsed):
        for verdict in verdicts:
            if isinstance(verdict, kind):
                return verdict
    return None
