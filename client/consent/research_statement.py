"""What a consent to research says. Its kind and its status come before its provisions."""

from __future__ import annotations

from dataclasses import replace

from client.consent.consent_topic import is_basis
from client.consent.document_kind import Kind
from client.consent.documents import ConsentDocument
from client.consent.provisions import (
    BASE_DENIES,
    NOT_KNOWN,
    Deny,
    Lapsed,
    Perhaps,
    Permit,
    Question,
    Unknown,
    is_empty,
    permits_anything,
    strictest,
    weigh,
    weigh_exception,
)
from client.consent.verdicts import (
    DOUBTFUL_STATUS,
    END_ENDED,
    OTHER_POLICY,
    REFUSED,
    WITHDRAWN,
    WITHDRAWN_IN_FULL,
    Verdict,
)

_OF_KIND: dict[Kind, Verdict] = {
    Kind.FULL_WITHDRAWAL: WITHDRAWN_IN_FULL,
    Kind.REFUSAL: REFUSED,
    Kind.UNKNOWN: Unknown("a form of the broad consent, or a kind of document, that is not known"),
}


def of_research(document: ConsentDocument, kind: Kind, policies: frozenset[str], question: Question) -> Verdict:
    """What a consent to research that is no draft says of the question."""
    if document.status in ("inactive", "rejected"):
        return _of_ended(document, kind, question)
    # Whether it speaks of the question at all does not depend on the date.
    whole = weigh(document.root, replace(question, at=None))
    speaks = whole is not None or is_empty(document.root) or kind.names_an_end
    if not speaks:
        return OTHER_POLICY
    # Only now: an erroneous consent about other policies leaves no doubt about this one.
    if document.status != "active":
        return DOUBTFUL_STATUS[document.status]
    return _OF_KIND.get(kind) or _of_active(document, kind, policies, question)


def _of_ended(document: ConsentDocument, kind: Kind, question: Question) -> Verdict:
    """Of a consent to research that is no longer active, or that was rejected."""
    if document.status == "inactive" and kind not in (Kind.NONE, Kind.CONSENT):
        is_part = kind in (Kind.ADD_ON, Kind.PARTIAL_WITHDRAWAL) and bool(document.root.exceptions)
        timeless = replace(question, at=None)
        names_others = is_part and all(weigh(inner, timeless) is None for inner in document.root.exceptions)
        return OTHER_POLICY if names_others else END_ENDED

    if is_empty(document.root):
        return REFUSED if document.status == "rejected" else WITHDRAWN
    answer = weigh(document.root, replace(question, at=None))
    if answer is None:
        return OTHER_POLICY
    if isinstance(answer, Perhaps) or answer in (BASE_DENIES, NOT_KNOWN):
        return Unknown("a consent was withdrawn that may or may not have been to this")
    if document.status == "rejected":
        return REFUSED
    return WITHDRAWN if permits_anything(document.root) else END_ENDED


def _of_active(document: ConsentDocument, kind: Kind, policies: frozenset[str], question: Question) -> Verdict:
    match kind:
        case Kind.NAMED_WITHDRAWAL | Kind.NAMED_REFUSAL:
            return _of_named_end(document, kind, question)
        case Kind.OPT_OUT:
            answer = weigh(document.root, question)
            return answer if isinstance(answer, Deny) else Unknown("a consent by opt-out: a person must read it")
        case Kind.ADD_ON | Kind.PARTIAL_WITHDRAWAL:
            return _of_part(document, kind is Kind.PARTIAL_WITHDRAWAL, question)
        case _:
            return _of_consent(document, kind, policies, question)


def _of_consent(document: ConsentDocument, kind: Kind, policies: frozenset[str], question: Question) -> Verdict:
    if is_empty(document.root):
        return Unknown("a consent to research without a provision, so that nobody can tell what it says")
    if question.at is not None and not document.root.period.holds(question.at):
        # What ended is a permission; whether a denial was meant to end with its period a person must say.
        whole = weigh(document.root, replace(question, at=None))
        return Unknown("a denial that is over") if isinstance(whole, Deny) else Lapsed()

    answer = weigh(document.root, question)
    if isinstance(answer, Permit) and not any(is_basis(text) for text in policies):
        return Unknown("a permission that names no policy, so that nobody can tell it from a form of withdrawal")
    if kind is Kind.CONSENT and isinstance(answer, Deny) and not document.root.exceptions and not document.root.codes:
        return Unknown("a form of consent that permits nothing")
    return OTHER_POLICY if answer is None or isinstance(answer, Perhaps) else answer


def _of_named_end(document: ConsentDocument, kind: Kind, question: Question) -> Verdict:
    """A withdrawal or refusal by TemplateType: it does not end with its period, and may be of a part only."""
    end = WITHDRAWN if kind is Kind.NAMED_WITHDRAWAL else REFUSED
    if is_empty(document.root):
        return end
    timeless = replace(question, at=None)
    exception_verdict = strictest([weigh_exception(inner, timeless) for inner in document.root.exceptions])
    if isinstance(exception_verdict, Deny) or (
        not document.root.exceptions and isinstance(weigh(document.root, timeless), Deny)
    ):
        return end
    if exception_verdict is None and permits_anything(document.root) and weigh(document.root, timeless) == BASE_DENIES:
        return end
    return Unknown("a withdrawal or refusal that does not name this, or permits it")


def _of_part(document: ConsentDocument, is_withdrawal: bool, question: Question) -> Verdict:
    """Only what it names counts: its base rule, which denies all else, must not undo an older consent to all else."""
    if is_withdrawal and is_empty(replace(document.root, permits=None)):
        return Unknown("a partial withdrawal that does not say of what")
    timeless_question = replace(question, at=None) if is_withdrawal else question
    exception_verdicts = [weigh_exception(inner, timeless_question) for inner in document.root.exceptions]
    if document.root.codes or document.root.purposes:
        exception_verdicts.append(weigh(document.root, timeless_question))
    verdicts_without_effect = (Permit, Lapsed, Perhaps) if is_withdrawal else (Lapsed, Perhaps)
    answer = strictest([one for one in exception_verdicts if not isinstance(one, verdicts_without_effect)])

    return OTHER_POLICY if answer is None or isinstance(answer, Lapsed | Perhaps) else answer
