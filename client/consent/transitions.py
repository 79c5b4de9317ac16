"""What may follow what in the life of a revocation. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from client.consent.revocation import Remediation, State
from common.errors import RefusedError
from common.records import Subset

_DECIDED = {State.PENDING, State.EXCLUDED, State.EVALUATION_ONLY, State.REFUSED}

TRANSITIONS: Mapping[State | None, frozenset[State]] = {
    None: frozenset({State.RECEIVED}),
    State.RECEIVED: frozenset({*_DECIDED, State.ON_HOLD, State.AWAITING_APPROVAL}),
    State.ON_HOLD: frozenset({*_DECIDED, State.AWAITING_APPROVAL}),
    State.AWAITING_APPROVAL: frozenset({State.PENDING, State.ON_HOLD, State.REFUSED}),
    State.PENDING: frozenset({State.IN_CAMPAIGN, State.UNLEARNED, State.RETRAINED, State.ON_HOLD, State.REFUSED}),
    # From here on the model may have begun to forget, which cannot be undone: no way leads to a refusal any more.
    State.IN_CAMPAIGN: frozenset({State.UNLEARNED, State.RETRAINED, State.ESCALATED}),
    State.ESCALATED: frozenset({State.IN_CAMPAIGN, State.UNLEARNED, State.RETRAINED}),
    State.EXCLUDED: frozenset(),
    State.EVALUATION_ONLY: frozenset(),
    State.UNLEARNED: frozenset(),
    State.RETRAINED: frozenset(),
    State.REFUSED: frozenset(),
}

NEEDS_REASON = frozenset({State.REFUSED, State.ON_HOLD, State.ESCALATED})
_REMEDIATION: Mapping[State, Remediation] = {
    State.EXCLUDED: "excluded-before-training",
    State.EVALUATION_ONLY: "evaluation-only",
    State.UNLEARNED: "unlearned",
    State.RETRAINED: "retrained",
    State.ESCALATED: "inconclusive",
    State.REFUSED: "refused",
}


def check_transition(before: State | None, after: State, reason: str = "") -> Remediation | None:
    """Refuse a step that the table does not have, or one that needs a reason; else what it says was done.

    Raises:
        RefusedError: it may not happen.
    """
    if after not in TRANSITIONS[before]:
        raise RefusedError(f"a revocation that is {before or 'new'} cannot become {after}")
    if after in NEEDS_REASON and not reason.strip():
        raise RefusedError(f"a revocation becomes {after} only with a reason")
    return remediation_of(after)


def check_approval(recorder: str, approver: str) -> None:
    """Refuse an approval by nobody, or by the one who recorded the revocation.

    Raises:
        RefusedError: the second person is not a second one.
    """
    if not approver.strip():
        raise RefusedError("an approval needs the name of who approves")
    if recorder.strip().casefold() == approver.strip().casefold():
        raise RefusedError("a second person must approve: not the one who recorded the revocation")


def remediation_of(state: State) -> Remediation | None:
    """What reaching `state` says was done about the revocation."""
    return _REMEDIATION.get(state)


def classified(subset: Subset | None, *, two_person: bool) -> State:
    """What follows the receipt for a patient who is in `subset` of the site, None: in no set.

    Unlearning cannot be undone, so that a site may ask for a second person before it, and before nothing else.
    """
    if subset is None:
        return State.EXCLUDED
    if subset is not Subset.TRAIN:
        return State.EVALUATION_ONLY
    return State.AWAITING_APPROVAL if two_person else State.PENDING
