"""Outcomes of a campaign and the grounds that each rests on, as they stand in journals, manifests and statements.

Frozen dataclasses of text, numbers and truth values: the stand-alone verifier reads them without pydantic, and pydantic
models hold them as fields. Every place that names an outcome takes the names from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from common.errors import EvidenceError
from common.evidence.schema import check_decimal, check_digest, check_text, check_time

Outcome = Literal["exact", "accepted", "accepted_qualified", "rejected", "inconclusive"]
Rung = Literal["exact", "own", "qualified", "retrain"]
"""Of the ladder, the strongest first: weights that never saw the patients, the campaign's own audit, a qualified
procedure, training again."""

PUBLISHED: frozenset[Outcome] = frozenset({"exact", "accepted", "accepted_qualified"})
"""Outcomes by which a candidate becomes a version."""
CONFORMITY_LEVEL = 0.05
"""A campaign that is as far from its rehearsals as this share of them, or a smaller one, does not conform."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What rehearsed patients give away in one branch beyond never-seen ones, with its 90 % interval; 0 is the aim."""

    branch: str
    value: str
    low: str
    high: str

    def __post_init__(self) -> None:
        check_text(self.branch, "branch")
        for name in ("value", "low", "high"):
            check_decimal(getattr(self, name), name)


@dataclass(frozen=True, slots=True)
class Criterion:
    """One criterion of a qualification, such as `Q1`: whether it holds, and what was found."""

    name: str
    holds: bool
    finding: str

    def __post_init__(self) -> None:
        check_text(self.name, "name")
        check_text(self.finding, "finding")


@dataclass(frozen=True, slots=True)
class QualificationGrounds:
    """A qualification, as far as an outcome rests on it.

    Attributes:
        id: its name at the coordinator.
        digest: SHA-256 of what was registered before the first rehearsal.
        rehearsals: how many were pooled.
        patients: patients of one rehearsal; the campaign forgot no more than that.
        controls: never-seen patients that rehearsed ones were compared with.
        margin: half-width of the band around 0 that every difference must lie in.
        differences: one for each branch, sorted by branch.
        criteria: all that were set beforehand, sorted by name.
        conformity: p-value of the campaign among the rehearsals, in margins and in process.
        valid_until: UTC time.
    """

    id: str
    digest: str
    rehearsals: int
    patients: int
    controls: int
    margin: str
    differences: tuple[Difference, ...]
    criteria: tuple[Criterion, ...]
    conformity: str
    valid_until: str

    def __post_init__(self) -> None:
        check_text(self.id, "id")
        check_digest(self.digest, "digest")
        check_decimal(self.margin, "margin")
        check_decimal(self.conformity, "conformity")
        check_time(self.valid_until, "valid_until")
        if min(self.rehearsals, self.patients, self.controls) < 1:
            raise EvidenceError("a qualification has rehearsals, patients and controls")
        for name, keys in (
            ("differences", [one.branch for one in self.differences]),
            ("criteria", [one.name for one in self.criteria]),
        ):
            if not keys or keys != sorted(set(keys)):
                raise EvidenceError(f"{name} is empty, not sorted, or holds an item twice")


@dataclass(frozen=True, slots=True)
class Descent:
    """A rung that the campaign did not end on, and why."""

    rung: Rung
    reason: str

    def __post_init__(self) -> None:
        check_text(self.reason, "reason")


@dataclass(frozen=True, slots=True)
class Grounds:
    """What an outcome rests on.

    Attributes:
        rung: the rung of the ladder that the campaign ended on.
        patients: forgotten patients behind the campaign's own audit, in its smallest branch; 0 if it measured none.
        controls: never-seen patients that they were compared with.
        trained_again: parts of the model that were trained again without the patients; for `exact`, all that ever
            saw them.
        descents: the rungs above, in order, each with the reason why it did not carry the outcome.
        qualification: for the rung `qualified`.
    """

    rung: Rung
    patients: int = 0
    controls: int = 0
    trained_again: tuple[str, ...] = ()
    descents: tuple[Descent, ...] = ()
    qualification: QualificationGrounds | None = None

    def __post_init__(self) -> None:
        if (self.rung == "qualified") != (self.qualification is not None):
            raise EvidenceError("the rung `qualified`, and no other, rests on a qualification")
        if self.rung == "exact" and not self.trained_again:
            raise EvidenceError("the rung `exact` names the parts that were trained again")
        if min(self.patients, self.controls) < 0:
            raise EvidenceError("a number of patients is negative")


_RUNGS: dict[Outcome, frozenset[Rung]] = {
    "exact": frozenset({"exact"}),
    "accepted": frozenset({"own", "retrain"}),
    "accepted_qualified": frozenset({"qualified"}),
}
"""Rungs that each positive outcome may rest on."""
_BRANCHES = ("fused", "image", "text")
_NEEDED = ("Q1", "Q2", "Q3", "Q4", "Q5")


def check_outcome(outcome: Outcome, grounds: Grounds | None) -> None:
    """Raise unless the outcome may rest on such grounds; `accepted` of earlier versions states none."""
    # Earlier versions knew no grounds, and neither of these two outcomes.
    if grounds is None:
        if outcome in {"exact", "accepted_qualified"}:
            raise EvidenceError(f"{outcome} states no grounds")
        return
    if outcome in _RUNGS and grounds.rung not in _RUNGS[outcome]:
        raise EvidenceError(f"{outcome} cannot rest on the rung `{grounds.rung}`")


def unsupported(outcome: Outcome, grounds: Grounds | None, at: str) -> str | None:
    """Why the stated grounds do not carry the outcome at time `at`, by their own figures; None if they do.

    A qualification carries one whose criteria all hold, whose differences lie within its margin in every branch, which
    is still valid, and to which the campaign conforms.
    """
    if outcome != "accepted_qualified" or grounds is None or grounds.qualification is None:
        return None
    return "; ".join(_faults(grounds.qualification, grounds.patients, at)) or None


def _faults(qualification: QualificationGrounds, patients: int, at: str) -> Iterator[str]:
    # Only the stated figures are judged: whether they are true, the verifier cannot know.
    margin = float(qualification.margin)
    failures = [one.name for one in qualification.criteria if not one.holds]
    missing = sorted(set(_NEEDED) - {one.name for one in qualification.criteria})
    outside = [one.branch for one in qualification.differences if float(one.low) < -margin or float(one.high) > margin]
    gaps = sorted(set(_BRANCHES) - {one.branch for one in qualification.differences})

    if failures or missing:
        yield f"criteria of the qualification that do not hold or are not stated: {', '.join((*failures, *missing))}"
    if outside or gaps:
        yield f"branches that are not shown to lie within ±{qualification.margin}: {', '.join((*outside, *gaps))}"
    if float(qualification.conformity) <= CONFORMITY_LEVEL:
        yield f"the campaign does not conform to its rehearsals (p = {qualification.conformity})"
    # Texts of this one form sort in order of time.
    if at > qualification.valid_until:
        yield f"the qualification ended at {qualification.valid_until}"
    if patients > qualification.patients:
        yield f"the campaign forgot {patients} patients, the qualification covers {qualification.patients}"
