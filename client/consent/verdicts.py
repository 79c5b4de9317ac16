"""What one consent can say about use for research, beside the answers: nothing, and why, or nothing that denies it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from client.consent.provisions import Answer, Deny, Lapsed, Unknown


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing is said of the question, and why that is; such a document replaces no other."""

    reason: str


@dataclass(frozen=True, slots=True)
class Neutral:
    """In general it permits: it takes the place of an older general denial, and permits no research."""


Verdict: TypeAlias = Answer | Lapsed | Neutral | Silent

DRAFT = Silent("a draft or a proposal")
OTHER_MATTER = Silent("about treatment or another matter")
OTHER_POLICY = Silent("about other policies or purposes")
GENERAL = Silent("about privacy in general, and denies nothing of this")
OTHER_UNREADABLE = Silent("about another matter, and not readable")
WITHDRAWN = Deny("the consent was withdrawn")
WITHDRAWN_IN_FULL = Deny("the consent was withdrawn in full")
REFUSED = Deny("the patient refused")
END_ENDED = Unknown("a withdrawal, a refusal or an addition is itself no longer active")
DOUBTFUL_STATUS = {
    "entered-in-error": Unknown("a consent was entered in error, which is no withdrawal"),
    "not-done": Unknown("a consent was not completed"),
    "unknown": Unknown("a consent of unknown status"),
}
