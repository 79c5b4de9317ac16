"""What a consent about something else than research says of it: purpose and policy are weighed whatever it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from client.consent.broad_consent import is_content, policy_reaches
from client.consent.consent_topic import Topic, is_basis
from client.consent.document_kind import Kind
from client.consent.documents import Coding, ConsentDocument
from client.consent.provisions import Deny, Permit, ProvisionAnswer, Question, Unknown, is_conditional, is_empty, weigh
from client.consent.purposes import Reach, denial_reaches
from client.consent.verdicts import (
    DOUBTFUL_STATUS,
    GENERAL,
    OTHER_MATTER,
    OTHER_POLICY,
    OTHER_UNREADABLE,
    REFUSED,
    WITHDRAWN,
    WITHDRAWN_IN_FULL,
    Neutral,
    Verdict,
)


def of_another_topic(
    document: ConsentDocument, topic: Topic, kind: Kind, policies: frozenset[str], question: Question
) -> Verdict:
    """What a consent that is no draft says of research, as far as it names it."""
    # Such a form speaks for itself, whatever else the document leaves out.
    if topic is Topic.UNPLACED and document.status == "active" and kind in (Kind.FULL_WITHDRAWAL, Kind.REFUSAL):
        return WITHDRAWN_IN_FULL if kind is Kind.FULL_WITHDRAWAL else REFUSED
    answer_by_name = _of_names(document, topic, kind, policies, question)
    if answer_by_name is not None:
        return answer_by_name
    if topic is Topic.OTHER:
        return OTHER_MATTER
    if topic is Topic.UNPLACED:
        return Unknown("nothing tells what a consent is about")
    return _of_privacy(document, kind, question)


def of_unreadable(resource: Mapping[str, Any], topic: Topic, question: Question, problem: str) -> Verdict:
    """What cannot be read counts as nothing only where it is about another matter and names nothing of this."""
    if topic is Topic.OTHER and not _may_name(resource.get("provision"), question, codes=False):
        return OTHER_UNREADABLE
    if topic is Topic.PRIVACY and not _may_name(resource.get("provision"), question, codes=True):
        root = resource.get("provision")
        decision = root.get("type") if isinstance(root, dict) else resource.get("decision")
        has_conditions = isinstance(root, dict) and "actor" in root
        if resource.get("status") in ("active", "draft", "proposed") and (decision == "permit" or has_conditions):
            return OTHER_UNREADABLE

    return Unknown(f"a consent cannot be read: {problem}")


def _of_names(
    document: ConsentDocument, topic: Topic, kind: Kind, policies: frozenset[str], question: Question
) -> Verdict | None:
    """What provisions say that name the purpose or the policy; None where none does."""
    is_ended = document.status in ("inactive", "rejected")
    at = None if is_ended else question.at
    answer: ProvisionAnswer = weigh(document.root, replace(question, by_name=True, at=at))
    if not isinstance(answer, Deny | Unknown | Permit):
        return None
    if is_ended:
        is_withdrawn = topic is Topic.PRIVACY and isinstance(answer, Permit) and kind is Kind.NONE
        return WITHDRAWN if is_withdrawn else Unknown("a consent about another matter that names this was ended")

    if document.status != "active":
        return DOUBTFUL_STATUS[document.status]
    return _of_named_permission(topic, kind, policies) if isinstance(answer, Permit) else answer


def _of_named_permission(topic: Topic, kind: Kind, policies: frozenset[str]) -> Verdict:
    has_basis = any(is_basis(text) for text in policies)
    if topic is Topic.PRIVACY and kind in (Kind.NONE, Kind.CONSENT) and has_basis:
        return Permit()
    return Unknown("a consent about another matter permits this")


def _of_privacy(document: ConsentDocument, kind: Kind, question: Question) -> Verdict:
    """Use and disclosure in general contain research: a general no is in doubt, a general yes permits nothing here."""
    answer = weigh(document.root, replace(question, at=None))
    is_bare = is_empty(document.root)
    if document.status in ("inactive", "rejected"):
        return OTHER_POLICY if answer is None and not is_bare else Unknown("a consent to use in general was ended")
    if document.status != "active":
        return GENERAL
    if kind not in (Kind.NONE, Kind.CONSENT):
        return Unknown("a withdrawal or refusal of use in general")
    if is_bare:
        return Unknown("a consent to use in general without a provision, so that nobody can tell what it says")
    general = weigh(document.root, question)
    if isinstance(general, Deny | Unknown) and not is_conditional(general):
        return Unknown("a consent about use in general denies all that it does not name")
    return OTHER_POLICY if answer is None else Neutral()


def _may_name(value: object, question: Question, *, codes: bool) -> bool:
    """Whether provisions that cannot be read name the question, or may."""
    provisions = value if isinstance(value, list) else [value]
    return any(
        _purposes_may(provision.get("purpose", ()), question)
        or (codes and _codes_may(provision.get("code", ()), question))
        or _may_name(provision.get("provision", []), question, codes=codes)
        for provision in provisions
        if isinstance(provision, dict)
    )


def _purposes_may(value: object, question: Question) -> bool:
    if value == ():
        return False
    purposes = [_coding(item) for item in value] if isinstance(value, list) else []
    return not purposes or any(
        purpose is None or denial_reaches(purpose, question.purpose) > Reach.NO for purpose in purposes
    )


def _codes_may(value: object, question: Question) -> bool:
    if value == ():
        return False
    concepts = value if isinstance(value, list) else []
    codings = [
        _coding(item)
        for concept in concepts
        for item in (concept.get("coding") or [None] if isinstance(concept, dict) else [None])
    ]
    other_codings = [coding for coding in codings if coding is not None and not is_content(coding)]

    return (
        not codings
        or None in codings
        or (bool(other_codings) and policy_reaches(other_codings, question.policy_code) > Reach.NO)
    )


def _coding(value: object) -> Coding | None:
    system, code = (value.get("system"), value.get("code")) if isinstance(value, dict) else (None, None)
    return Coding(system, code) if isinstance(system, str) and isinstance(code, str) and system and code else None
