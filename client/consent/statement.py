"""What one consent says about use for research: what it is about comes first, then its kind, status and provisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from client.consent.broad_consent import form_of
from client.consent.consent_topic import Topic, policy_texts, template_types, topic_of
from client.consent.document_kind import kind_of
from client.consent.documents import REVOKED, ConsentDocument, Span, read_consent, read_date
from client.consent.fields import UnreadableConsentError
from client.consent.other_statement import of_another_topic, of_unreadable
from client.consent.provisions import Deny, Permit, Question, Unknown, weigh
from client.consent.research_statement import of_research
from client.consent.verdicts import DRAFT, Verdict

_FAR = Span(datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
_LONG_AGO = Span(datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC))
_REVOKED_BY_REQUEST = Unknown("a consent was revoked by request that does not name this")


@dataclass(frozen=True, slots=True)
class Statement:
    """One document's word on the question.

    Attributes:
        template: documents of one template replace each other.
        signing_date: when the patient decided; None if not said.
        withdrawn: when this version was written, if it is no longer active; the end of time where that is not said.
        by_name: whether a provision says it that names the policy or the purpose.
    """

    template: object
    signing_date: Span | None
    withdrawn: datetime | None
    verdict: Verdict
    by_name: bool = False


def state(resource: Mapping[str, Any], question: Question) -> Statement:
    """Read one version of a consent as far as it goes; never fails."""
    topic = topic_of(resource)
    policies = policy_texts(resource)
    # All versions of the initiative's forms replace each other, other documents only those with the same policies.
    template: object = "mii-broad-consent" if form_of(policies) else (topic is Topic.RESEARCH, policies)

    try:
        document = read_consent(resource)
        verdict = _read(document, topic, resource, question)
    except UnreadableConsentError as err:
        verdict = of_unreadable(resource, topic, question, err.problem)
        signature_span: Span | None = _date(resource)
        end_span = None
        by_name = False
    else:
        signature_span = document.signing_date
        by_name = isinstance(weigh(document.root, replace(question, by_name=True)), Permit | Deny)
        end_span = (document.last_update or _FAR.first) if document.status == "inactive" else None

    if REVOKED in resource and not isinstance(verdict, Deny):
        # On its own, so that no newer consent about the same other matter outweighs it, and before any real withdrawal.
        return Statement((REVOKED, resource.get("id")), _LONG_AGO, None, _REVOKED_BY_REQUEST)

    return Statement(template, signature_span, end_span, verdict, by_name)


def named_denial(resource: Mapping[str, Any], question: Question) -> Statement | None:
    """What an active consent to research says of a policy by its own name."""
    try:
        document = read_consent(resource)
    except UnreadableConsentError:
        return None

    verdict = weigh(document.root, replace(question, by_name=True))
    if (
        document.status != "active"
        or topic_of(resource) is not Topic.RESEARCH
        or not isinstance(verdict, Permit | Deny)
    ):
        return None
    policies = policy_texts(resource)
    template: object = "mii-broad-consent" if form_of(policies) else (True, policies)

    return Statement(template, document.signing_date, None, verdict)


def _read(document: ConsentDocument, topic: Topic, resource: Mapping[str, Any], question: Question) -> Verdict:
    policies = policy_texts(resource)
    kind = kind_of(policies, template_types(resource))
    if document.status in ("draft", "proposed"):
        return DRAFT
    if topic is Topic.RESEARCH:
        return of_research(document, kind, policies, question)
    return of_another_topic(document, topic, kind, policies, question)


def _date(resource: Mapping[str, Any]) -> Span:
    """When an unreadable document was signed: as late as can be, unless it says so."""
    text = resource.get("dateTime", resource.get("date"))

    try:
        return read_date(text) if isinstance(text, str) else _FAR
    except UnreadableConsentError:
        return _FAR
