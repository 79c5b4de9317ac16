"""The ladder: which evidence carries a campaign, the strongest first, and why a rung above did not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from pydantic import BaseModel

from common.evidence.outcomes.grounds import Descent, Grounds, QualificationGrounds, unsupported
from common.evidence.schema import time_text
from common.learning.config import DecisionConfig
from server.campaign.campaign import Campaign
from server.campaign.verdict.judging import Verdict, why_undecidable
from server.rounds.journal import Journal
from server.rounds.unlearning.base import Collected
from server.settings import PolicyConfig, Terms

LEFT_OUT = "policy.ladder leaves this rung out"


class Batched(BaseModel):
    """Until when the patients of a campaign wait for a retraining that forgets all who wait by then."""

    until: datetime


class Qualifier(Protocol):
    """Knows the qualifications of a federation."""

    def uncovered(self, parent: str, collected: Collected, terms: Terms) -> str:
        """Why no valid qualification covers a campaign that forgets these patients; empty where one does."""

    def grounds(self, parent: str, campaign: Campaign, terms: Terms, journal: Journal) -> QualificationGrounds | str:
        """What a candidate may rest on that conforms to its rehearsals, or why it does not."""


class Unqualified:
    """No procedure was ever qualified here."""

    def uncovered(self, parent: str, collected: Collected, terms: Terms) -> str:  # noqa: ARG002 - see `Qualifier`
        """See `Qualifier`."""
        return "no qualification is valid"

    def grounds(self, parent: str, campaign: Campaign, terms: Terms, journal: Journal) -> str:  # noqa: ARG002
        """See `Qualifier`."""
        return "no qualification is valid"


@dataclass(frozen=True, slots=True)
class Ladder:
    """The rungs that the policy allows."""

    policy: PolicyConfig
    decision: DecisionConfig

    def out_of_reach(self, collected: Collected, uncovered: Callable[[], str]) -> tuple[Descent, ...]:
        """Why neither the campaign's own audit nor a qualification could carry it; empty where one of them could."""
        own = why_undecidable(collected, self.decision) if "own" in self.policy.ladder else LEFT_OUT
        if own is None:
            return ()
        why_uncovered = uncovered() if "qualified" in self.policy.ladder else LEFT_OUT
        return (Descent("own", own), Descent("qualified", why_uncovered)) if why_uncovered else ()

    def climb(self, own: Verdict, qualified: Callable[[], QualificationGrounds | str], now: datetime) -> Verdict:
        """The outcome on the strongest rung that carries it.

        Evidence against the candidate, by the own audit or by a veto, is never outweighed by a qualification.
        """
        if own.vetoes or own.outcome == "rejected" or own.grounds is None:
            return own
        if own.outcome == "accepted" and "own" in self.policy.ladder:
            return own
        why = "; ".join(own.reasons) if "own" in self.policy.ladder else LEFT_OUT
        evidence = qualified() if "qualified" in self.policy.ladder else LEFT_OUT
        own_grounds = replace(own.grounds, descents=(Descent("own", why),))

        if isinstance(evidence, QualificationGrounds):
            grounds = replace(own_grounds, rung="qualified", qualification=evidence)
            # Grounds that a verifier would not accept for this outcome must not be published with it.
            fault = unsupported("accepted_qualified", grounds, time_text(now))
            if fault is None:
                conforms = f"conforms to the rehearsals of qualification {evidence.id}, p = {evidence.conformity}"
                return Verdict(outcome="accepted_qualified", reasons=(conforms,), vetoes=(), grounds=grounds)
            evidence = fault

        return Verdict(
            outcome="inconclusive",
            reasons=(why, f"not by qualification: {evidence}"),
            vetoes=(),
            grounds=replace(own_grounds, descents=(*own_grounds.descents, Descent("qualified", evidence))),
        )


def undecidable(descents: tuple[Descent, ...]) -> Verdict:
    """The verdict where no rung could carry a campaign."""
    own, qualification = descents
    reasons = (own.reason, f"not by qualification: {qualification.reason}")
    return Verdict(outcome="inconclusive", reasons=reasons, vetoes=(), grounds=Grounds("own", descents=descents))
