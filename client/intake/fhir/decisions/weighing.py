"""What all known versions of a patient's consents come to: an answer for now, and the withdrawals on the way.

A withdrawal that a later version took back was one all the same: whether it is seen must not depend on which
messages were lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from client.consent.documents import Coding
from client.consent.rule import Answer, Deny, judged, permitted


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """One version of one consent.

    Attributes:
        is_new: not weighed before.
        receipt: of its arrival.
        patient: pseudonym under which it lies.
    """

    resource: str
    number: str
    updated: datetime | None
    received: datetime
    receipt: str
    is_new: bool
    document: Mapping[str, Any] = field(repr=False)
    patient: str = ""

    @property
    def moment(self) -> datetime:
        """Its place among others, by the server's clock where that is known."""
        return self.updated or self.received

    @property
    def known_since(self) -> datetime:
        """When the hospital had it: the server's own time where it gave one that has passed."""
        return min(self.moment, self.received)


@dataclass(frozen=True, slots=True)
class Weighed:
    """What `weigh` found.

    Attributes:
        answer: of all versions together.
        withdrawal: the first new version that denied when it was the last word.
    """

    answer: Answer
    withdrawal: KnownVersion | None


def weigh(
    versions: Sequence[KnownVersion],
    policy: Coding,
    purpose: Coding | None,
    *,
    since: datetime | None,
    at: datetime,
) -> Weighed:
    """Ask the rule about everything, and about everything as it stood at each new version.

    Args:
        versions: all that are known of one patient.
        policy: what is to be done, as for `permitted`.
        purpose: what for.
        since: versions from before this count only as part of the whole: who withdrew and consented again before the
            site began to listen has consented.
        at: now.
    """
    answer = permitted([version.document for version in versions], policy, purpose, at)
    new = sorted((version for version in versions if version.is_new), key=lambda v: (v.moment, v.resource, v.number))

    for version in new:
        if since is not None and version.moment < since:
            continue
        then = [other.document for other in versions if _was_known(other, version)]
        if isinstance(permitted(then, policy, purpose, at), Deny):
            return Weighed(answer, version)

    return Weighed(answer, new[-1] if new and isinstance(answer, Deny) else None)


def silent_of(
    versions: Sequence[KnownVersion], policy: Coding, purpose: Coding | None, *, at: datetime
) -> Mapping[str, int]:
    """How many of the consents say nothing of what is asked, by what they are about."""
    return judged([version.document for version in versions], policy, purpose, at).silent


def _was_known(other: KnownVersion, version: KnownVersion) -> bool:
    """Not later than `version`: by number within one resource, as a clock may have been set back; else by time."""
    if other.resource == version.resource and other.number.isdecimal() and version.number.isdecimal():
        return int(other.number) <= int(version.number)
    return other.moment <= version.moment
