"""What the provisions of one consent say: the deepest that fits wins, and among neighbours the strictest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from client.consent.broad_consent import is_content, policy_reaches
from client.consent.documents import Coding, Provision
from client.consent.purposes import Reach, code_of, denial_reaches, is_named, permission_reaches


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
class Lapsed:
    """A permission that is over or has not begun."""


@dataclass(frozen=True, slots=True)
class Perhaps:
    """A permission for something that may or may not be what is asked: no denial, and nothing to rely on."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the consents.

    Attributes:
        policy_code: what is to be done.
        purpose: what for; None asks for research.
        at: when; None leaves periods out of account.
        by_name: whether only provisions count that name a code or a purpose.
    """

    policy_code: Coding
    purpose: Coding | None
    at: datetime | None
    by_name: bool = False


Answer: TypeAlias = Permit | Deny | Unknown
ProvisionAnswer: TypeAlias = Answer | Lapsed | Perhaps | None
"""None: nothing is said about what was asked."""

_DENIED_BELOW = Unknown("an exception to something else denies this by name")
NOT_KNOWN = Unknown("a provision names a code or a purpose that may or may not be this one")
BASE_DENIES = Unknown("a base rule denies what the consent does not name, and it does not name this")
"""Patients who consent have a base rule that denies, too, with exceptions: alone it is no decision of theirs."""
_DEPENDS = "a provision depends on "
_NAMES_NOTHING = Unknown("an exception that names nothing")


def weigh(provision: Provision, question: Question) -> ProvisionAnswer:
    """What a provision and its exceptions say."""
    reach = _reach(provision, question)
    if reach is Reach.NO:
        return _denied_below(provision, question)
    is_named_here = bool(provision.codes or provision.purposes) or _is_labelled(provision, question)
    if question.at is not None and not provision.period.holds(question.at):
        # What ended is a permission, not the patient's will: the base rule's denial must not pass for a withdrawal.
        return Lapsed() if provision.permits and (is_named_here or not question.by_name) else None

    if question.by_name and not is_named_here:
        return strictest([weigh(inner, question) for inner in provision.exceptions])
    if provision.conditions:
        return Unknown(f"{_DEPENDS}{', '.join(provision.conditions)}, which is not weighed")
    deeper = strictest([weigh_exception(inner, replace(question, by_name=False)) for inner in provision.exceptions])

    return _with_exceptions(provision, deeper, reach)


def weigh_exception(provision: Provision, question: Question) -> ProvisionAnswer:
    """What an exception says; one that names nothing excepts everything, which nobody means."""
    is_nameless = not (provision.codes or provision.purposes or provision.conditions or provision.exceptions)
    is_in_force = question.at is None or provision.period.holds(question.at)
    return _NAMES_NOTHING if is_nameless and is_in_force else weigh(provision, question)


def strictest(said: Sequence[ProvisionAnswer]) -> ProvisionAnswer:
    """A permission in force outweighs a lapsed one, which it renews."""
    for kind in (Deny, Unknown, Permit, Lapsed, Perhaps):
        for one in said:
            if isinstance(one, kind):
                return one

    return None


def is_conditional(said: ProvisionAnswer) -> bool:
    """Whether only limits that are not weighed, such as actors, leave it in doubt."""
    return isinstance(said, Unknown) and said.reason.startswith(_DEPENDS)


def permits_anything(provision: Provision) -> bool:
    """Whether there is any permission in it, for whatever."""
    return provision.permits is True or any(permits_anything(inner) for inner in provision.exceptions)


def is_empty(provision: Provision) -> bool:
    """Whether it says nothing at all."""
    return provision.permits is None and not (provision.exceptions or provision.codes or provision.purposes)


def _is_labelled(provision: Provision, question: Question) -> bool:
    """Whether a denial names the purpose as an action or a label: not weighed, but not to be passed over either."""
    reaches = (denial_reaches(label, question.purpose) for label in provision.labels if code_of(label) is not None)
    return provision.permits is False and Reach.YES in reaches


def _denied_below(provision: Provision, question: Question) -> ProvisionAnswer:
    """What is no answer by itself may still hold a no: `treatment is permitted, but no training on it`."""
    question_by_name = replace(question, by_name=True)
    # `weigh` looks below by itself: to look twice at each level would double the work with every level.
    answers = [weigh(inner, question_by_name) for inner in provision.exceptions]
    is_denied = any(isinstance(answer, Deny) or answer == _DENIED_BELOW for answer in answers)

    return _DENIED_BELOW if is_denied else None


def _with_exceptions(provision: Provision, deeper: ProvisionAnswer, reach: Reach) -> ProvisionAnswer:
    if deeper is not None and not isinstance(deeper, Perhaps):
        # An exception is no surer about the question than the provision around it.
        return NOT_KNOWN if reach is Reach.MAYBE and isinstance(deeper, Permit | Deny) else deeper
    is_named_here = bool(provision.codes or provision.purposes)
    if provision.permits is None:
        return Unknown("a provision that neither permits nor denies") if is_named_here or provision.exceptions else None
    if provision.permits:
        return Permit() if reach is Reach.YES else Perhaps()
    if reach is Reach.MAYBE or deeper is not None:
        return NOT_KNOWN
    return Deny("a provision denies it") if is_named_here or not provision.exceptions else BASE_DENIES


def _reach(provision: Provision, question: Question) -> Reach:
    reaches = [Reach.YES]
    if provision.codes:
        reaches.append(_policy_reach(provision, question))
    if provision.purposes:
        reaches.append(_purpose_reach(provision, question))
    # It is about the question only if its codes and its purposes both are.
    return min(reaches)


def _policy_reach(provision: Provision, question: Question) -> Reach:
    # Codes of findings or drugs say which data are meant, and name no use of them.
    if question.by_name and all(is_content(code) for code in provision.codes):
        return Reach.NO
    return policy_reaches(provision.codes, question.policy_code)


def _purpose_reach(provision: Provision, question: Question) -> Reach:
    if provision.permits is False:
        return max(denial_reaches(purpose, question.purpose) for purpose in provision.purposes)
    reach = max(permission_reaches(purpose, question.purpose) for purpose in provision.purposes)
    if question.by_name and not any(is_named(purpose, question.purpose) for purpose in provision.purposes):
        return min(reach, Reach.MAYBE)
    return reach
