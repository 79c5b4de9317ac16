"""May a patient's data be used? The one pure function that answers, from all consents known of the patient.

Two mistakes are worth everything here: to use data of someone who withdrew, and to unlearn, which cannot be undone,
someone who did not. So a `Permit` needs every doubt gone, a `Deny` needs a decision of the patient, and what lies
between is `Unknown`: it blocks use as well, and goes to a steward. Consents that are about other things are counted, by
what they are about. `docs/reference/consent-rules.md` lists what is answered to which form.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from client.consent.broad_consent import needed_with
from client.consent.documents import REVOKED, Coding, Span
from client.consent.provisions import Answer, Deny, Lapsed, Permit, Question, Unknown
from client.consent.statement import Statement, named_denial, state
from client.consent.verdicts import GENERAL, OTHER_POLICY, Neutral, Silent, Verdict
from client.consent.versions import Resource, newest_versions

__all__ = ["SILENT", "Answer", "Deny", "Judgement", "Permit", "Unknown", "judged", "permitted"]

SILENT = Unknown("no consent speaks of this")
"""Of a patient whose consents are about other things: nothing to doubt, and nothing to rely on."""

_TOO_DEEP = Unknown("a consent cannot be read: nested too deeply")
_UNORDERED = Unknown("a consent has versions of which none can be told to be the last")


@dataclass(frozen=True, slots=True)
class Judgement:
    """An answer, and how many consents say nothing of the question, by what they are about instead."""

    answer: Answer
    silent: Mapping[str, int]


def permitted(
    consents: Iterable[Mapping[str, Any]], policy_code: Coding, purpose: Coding | None, at: datetime
) -> Answer:
    """The answer of `judged`."""
    return judged(consents, policy_code, purpose, at).answer


def judged(
    consents: Iterable[Mapping[str, Any]], policy_code: Coding, purpose: Coding | None, at: datetime
) -> Judgement:
    """Weigh all `consents` of one patient; their order does not matter.

    Args:
        consents: parsed FHIR Consent resources (R4, R4B, R5), all versions of all documents that are known, including
            those of records merged into this patient's.
        policy_code: what is to be done, such as `mii_broad_consent.USE_FOR_RESEARCH`.
        purpose: what for (`v3-ActReason`); None asks for research. A refusal of research or of training models counts
            whatever is asked for.
        at: when, with a zone. A decision against use counts from when it is known, whatever its own date.
    """
    question = Question(policy_code, purpose, at)

    try:
        # Consents nested too deeply break the writing of JSON, too.
        # Sorted, so that the order in which consents arrived changes neither the answer nor its reason.
        in_order = sorted(consents, key=lambda resource: json.dumps(resource, sort_keys=True))
        newest = newest_versions(in_order)
        statements = [_one(versions, lambda resource: state(resource, question)) for versions in newest]
        statements += _still_revoked(in_order, newest, question)
        denial = _denied_by_name(newest, question)
    except RecursionError:
        return Judgement(_TOO_DEEP, {})

    silent = Counter(one.verdict.reason for one in statements if isinstance(one.verdict, Silent))
    silent.update(GENERAL.reason for one in statements if isinstance(one.verdict, Neutral))
    answer = _across_templates(_by_template(statements, at))
    # It turns a yes into a doubt, never a doubt into a no.
    if denial and (isinstance(answer, Permit) or answer == SILENT):
        answer = Unknown("what use depends on, collecting or storing the data, is denied by name")
    return Judgement(answer, silent)


def _one(versions: Sequence[Resource], read: Callable[[Resource], Statement]) -> Statement:
    """What a consent says, in doubt where it is not clear which of its versions is the last."""
    statements = [read(resource) for resource in versions]
    if len(statements) == 1 or all(isinstance(one.verdict, Silent) for one in statements):
        return statements[0]
    # As new as the newest of them: no document in between may outweigh the doubt.
    latest = max(
        (one.signing_date for one in statements if one.signing_date is not None),
        key=lambda span: span.last,
        default=None,
    )

    return replace(statements[0], verdict=_UNORDERED, signing_date=latest, withdrawn=None)


def _still_revoked(
    consents: Sequence[Resource], newest: Sequence[Sequence[Resource]], question: Question
) -> list[Statement]:
    """Requests to revoke that left a doubt, which a later version that may not know of them does not end."""
    last = [resource for versions in newest for resource in versions]
    earlier = [resource for resource in consents if REVOKED in resource and resource not in last]
    return [one for one in (state(resource, question) for resource in earlier) if isinstance(one.verdict, Unknown)]


def _denied_by_name(newest: Sequence[Sequence[Resource]], question: Question) -> bool:
    """Whether a policy without which the asked one is worth nothing is denied by the last word on it."""
    at = question.at

    for policy in needed_with(question.policy_code):
        policy_question = replace(question, policy_code=policy)
        denials = [named_denial(resource, policy_question) for versions in newest for resource in versions]
        statements = [one for one in denials if one is not None]
        if at is not None and any(isinstance(verdict, Deny) for _, verdict in _by_template(statements, at)):
            return True

    return False


def _by_template(statements: Sequence[Statement], at: datetime) -> list[tuple[datetime | None, Verdict]]:
    templates: dict[object, list[Statement]] = {}
    for one in statements:
        if not isinstance(one.verdict, Silent):
            templates.setdefault(one.template, []).append(one)

    return [_of_template(members, at) for members in templates.values()]


def _across_templates(decisions: Sequence[tuple[datetime | None, Verdict]]) -> Answer:
    """All permit, or the newest denies; anything else is for a steward."""
    answers = [(moment, answer) for moment, answer in decisions if isinstance(answer, Permit | Deny | Unknown)]
    if not answers:
        has_lapsed = any(isinstance(verdict, Lapsed) for _, verdict in decisions)
        return Unknown("consent is not in force at this time") if has_lapsed else SILENT

    if all(isinstance(answer, Permit) for _, answer in answers):
        return Permit()
    newest = max((moment for moment, _ in answers if moment is not None), default=None)
    last = [answer for moment, answer in answers if moment in (None, newest)]
    doubts = [answer for _, answer in answers if isinstance(answer, Unknown)]
    undated_answers = [answer for moment, answer in answers if moment is None and isinstance(answer, Unknown)]
    if undated_answers:
        return undated_answers[0]  # it may be newer than any denial
    candidates: list[Answer] = [*(answer for answer in last if isinstance(answer, Deny)), *doubts]

    return candidates[0] if candidates else Unknown("a consent to something else was withdrawn")


def _of_template(statements: Sequence[Statement], at: datetime) -> tuple[datetime | None, Verdict]:
    """When the deciding document was signed, and what it says. A document that is silent replaces nothing."""
    older = sorted(
        ((one.signing_date, one) for one in statements if one.signing_date is not None),
        key=lambda pair: pair[0].first,
        reverse=True,
    )
    undated_answers = [one for one in statements if one.signing_date is None and not isinstance(one.verdict, Neutral)]

    if undated_answers:
        # A withdrawal needs no date where nothing is there that could be newer.
        if not older and all(one.withdrawn is not None and isinstance(one.verdict, Deny) for one in undated_answers):
            return None, undated_answers[0].verdict
        return None, Unknown("a consent without a date, so that nobody knows which is the last")

    has_lapsed = False
    while older:
        newest = older[0][0].first
        # A day and an hour of that day cannot be ordered: both are the last word.
        last = [one for span, one in older if span.last >= newest]
        older = [(span, one) for span, one in older if span.last < newest]
        verdict = _agreed([one.verdict for one in last])
        # Not in force yet: the one before it decides, unless this one is a no or a doubt.
        if newest > at and not isinstance(verdict, Deny | Unknown):
            has_lapsed = True
            continue

        if isinstance(verdict, Permit) and any(_withdrawn_since(one, newest) for _, one in older):
            verdict = Unknown("an older consent was withdrawn after a newer one had been signed")
        elif (
            isinstance(verdict, Permit | Neutral) and not any(one.by_name for one in last) and _is_denied_by_name(older)
        ):
            verdict = Unknown("a newer consent permits all, and an older one denies this by name")

        return newest, verdict

    return None, Lapsed() if has_lapsed else OTHER_POLICY


def _agreed(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of documents of which none is the newer."""
    kinds = {type(verdict) for verdict in verdicts}
    if {Permit, Deny} <= kinds:
        return Unknown("one consent permits and another of the same time denies")
    for kind in (Deny, Unknown, Permit, Lapsed, Neutral):
        for verdict in verdicts:
            if isinstance(verdict, kind):
                return verdict

    return OTHER_POLICY


def _is_denied_by_name(older: Sequence[tuple[Span, Statement]]) -> bool:
    """Whether the last word that names the question denies it."""
    by_name = [one for _, one in older if one.by_name and isinstance(one.verdict, Permit | Deny)]
    return bool(by_name) and isinstance(by_name[0].verdict, Deny)


def _withdrawn_since(one: Statement, moment: datetime) -> bool:
    return one.withdrawn is not None and one.withdrawn >= moment
