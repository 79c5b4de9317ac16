"""The allowed state changes of a revocation. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from client.revocations.revocation import Remediation, State
from common.errors import RefusedError
from common.learning.records import Subset

# What a revocation becomes once it is clear who is meant.
_DECIDED = {State.PENDING, State.EXCLUDED, State.EVALUATION_ONLY, State.USE_STOPPED, State.REFUSED}
_AGAIN = frozenset({State.READMITTED})
"""A patient may take part again, as from the next campaign; what the model has forgotten stays forgotten."""

TRANSITIONS: Mapping[State | None, frozenset[State]] = {
    None: frozenset({State.RECEIVED}),
    State.RECEIVED: frozenset({*_DECIDED, State.ON_HOLD, State.AWAITING_APPROVAL}),
    State.ON_HOLD: frozenset({*_DECIDED, *_AGAIN, State.AWAITING_APPROVAL}),
    State.AWAITING_APPROVAL: frozenset({State.PENDING, State.ON_HOLD, State.REFUSED, *_AGAIN}),
    State.PENDING: frozenset(
        {State.IN_CAMPAIGN, State.UNLEARNED, State.RETRAINED, State.ON_HOLD, State.REFUSED, *_AGAIN}
    ),
    # From here on the model may have begun to forget, which cannot be undone: refusal is no longer possible.
    State.IN_CAMPAIGN: frozenset({State.UNLEARNED, State.RETRAINED, State.ESCALATED}),
    State.ESCALATED: frozenset({State.IN_CAMPAIGN, State.UNLEARNED, State.RETRAINED}),
    State.EXCLUDED: _AGAIN,
    State.EVALUATION_ONLY: _AGAIN,
    State.USE_STOPPED: _AGAIN,
    State.UNLEARNED: _AGAIN,
    State.RETRAINED: _AGAIN,
    State.REFUSED: frozenset(),
    State.READMITTED: frozenset(),
}

# Somebody must be able to read later why use went on, stopped or was resumed.
NEEDS_REASON = frozenset({State.REFUSED, State.ON_HOLD, State.ESCALATED, State.READMITTED})
_REMEDIATION: Mapping[State, Remediation] = {
    State.EXCLUDED: "excluded-before-training",
    State.EVALUATION_ONLY: "evaluation-only",
    State.UNLEARNED: "unlearned",
    State.RETRAINED: "retrained",
    State.ESCALATED: "inconclusive",
    State.REFUSED: "refused",
    State.USE_STOPPED: "use-stopped",
    State.READMITTED: "readmitted",
}


def check_transition(before: State | None, after: State, reason: str = "") -> Remediation | None:
    """Refuse a step that is not in the table or lacks a required reason; returns its remediation.

    Raises:
        RefusedError: the step is not allowed.
    """
    if after not in TRANSITIONS[before]:
        raise RefusedError(f"a revocation that is {before or 'new'} cannot become {after}")
    if after in NEEDS_REASON and not reason.strip():
        raise RefusedError(f"a revocation becomes {after} only with a reason")
    return remediation_of(after)


def remediation_of(state: State) -> Remediation | None:
    """The remediation that `state` stands for."""
    return _REMEDIATION.get(state)


def classified(subset: Subset | None, *, two_person: bool, unlearn: bool = True) -> State:
    """The state after receipt for a patient in `subset` of the site; None: in no set.

    Unlearning cannot be undone, so a site may require a second person before it. Without `unlearn` use stops and the
    model is not changed.
    """
    if subset is None:
        return State.EXCLUDED
    if subset is not Subset.TRAIN:
        return State.EVALUATION_ONLY
    if not unlearn:
        return State.USE_STOPPED
    return State.AWAITING_APPROVAL if two_person else State.PENDING
