"""The states of a campaign and the ways between them."""

from __future__ import annotations

from enum import StrEnum


class CampaignState(StrEnum):
    """Where a campaign stands; the last five are its ends."""

    PLANNED = "planned"
    COLLECTING = "collecting"
    UNLEARNING = "unlearning"
    AGGREGATING = "aggregating"
    RETAINING = "retaining"
    EVALUATING = "evaluating"
    DECIDING = "deciding"
    RETRAINING = "retraining"
    """Training without the revoked patients; also the only working state of a plain training."""
    PUBLISHED = "published"
    REJECTED = "rejected"
    INCONCLUSIVE = "inconclusive"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Nothing follows."""
        return not WAYS[self]


_S = CampaignState
_STOPS = frozenset({_S.CANCELLED, _S.FAILED})

WAYS: dict[CampaignState, frozenset[CampaignState]] = {
    _S.PLANNED: frozenset({_S.COLLECTING, _S.RETRAINING}) | _STOPS,
    _S.COLLECTING: frozenset({_S.UNLEARNING, _S.RETRAINING, _S.INCONCLUSIVE}) | _STOPS,
    _S.UNLEARNING: frozenset({_S.AGGREGATING, _S.RETRAINING, _S.REJECTED, _S.INCONCLUSIVE}) | _STOPS,
    _S.AGGREGATING: frozenset({_S.RETAINING, _S.EVALUATING, _S.REJECTED}) | _STOPS,
    _S.RETAINING: frozenset({_S.EVALUATING, _S.REJECTED}) | _STOPS,
    _S.EVALUATING: frozenset({_S.DECIDING}) | _STOPS,
    _S.DECIDING: frozenset({_S.PUBLISHED, _S.RETRAINING, _S.REJECTED, _S.INCONCLUSIVE}) | _STOPS,
    _S.RETRAINING: frozenset({_S.PUBLISHED, _S.REJECTED}) | _STOPS,
    _S.PUBLISHED: frozenset(),
    _S.REJECTED: frozenset(),
    _S.INCONCLUSIVE: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.FAILED: frozenset(),
}
