"""What an outcome rests on, and what the campaign's own audit was able to detect, in words. Pure.

The membership AUC is the share of pairs, each of a forgotten and a never-seen patient, in which an attack picks the
forgotten one; 50 of 100 is chance. Every output that names an outcome shows these lines too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.evidence.outcomes.grounds import Grounds, Outcome
from common.evidence.outcomes.grounds_text import grounds_lines
from common.evidence.statements import Unlearning

USUAL_MARGIN = 0.10
"""Default of `DecisionConfig.auc_margin`."""
MEMBERSHIP = "membership AUC, "
"""Prefix of the names of membership figures; the branch follows."""
RETRAINED = "retrained"
# The margin in the reasons of older statements, which had no field for it.
_BAND = re.compile(r"every branch within (0\.\d+) to (0\.\d+)")


@dataclass(frozen=True, slots=True)
class Figure:
    """The membership AUC of one branch, its interval at `level`, and the number of forgotten patients behind it."""

    branch: str
    value: float
    low: float
    high: float
    level: float
    patients: int


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What an outcome rests on, and what the campaign's own audit was able to detect.

    Attributes:
        lines: the grounds where they are stated, then the rule, then one line per branch.
        warning: a sentence if the margin is wider than the default; empty otherwise.
        patients: the smallest number of forgotten patients behind a figure; 0 without figures.
        most: pairs of 100 in which an attack may pick the forgotten patient, by the widest interval; None without
            figures.
        allowed: pairs of 100 that the rule allows; None if the margin is unknown.
        outcome: which of the five.
        grounds: None in records of earlier versions.
    """

    lines: tuple[str, ...]
    warning: str
    patients: int = 0
    most: int | None = None
    allowed: int | None = None
    outcome: Outcome = "accepted"
    grounds: Grounds | None = None


def acceptance(
    figures: Sequence[Figure],
    margin: float | None,
    outcome: Outcome = "accepted",
    grounds: Grounds | None = None,
) -> Acceptance:
    """Describe grounds, figures and margin in words.

    Args:
        figures: one for each branch that the campaign's own audit judged.
        margin: half-width of the accepted band around .5; None if it is unknown.
        outcome: what was decided.
        grounds: what it rests on; None in records of earlier versions.
    """
    ground_lines = () if grounds is None else grounds_lines(outcome, grounds)
    # Weights that never saw the patients need no audit of what was forgotten.
    if grounds is not None and grounds.rung == "retrain":
        return Acceptance(ground_lines, "", outcome=outcome, grounds=grounds)
    lines = [
        *ground_lines,
        *(["the campaign's own audit, on which the outcome does not rest:"] if _rests_elsewhere(grounds) else []),
        _rule(margin),
    ]

    for one in figures:
        people = f"{one.patients} forgotten patient{'' if one.patients == 1 else 's'}"
        lines.append(
            f"{one.branch}: {_pairs(one.value)} of 100 pairs, {one.level * 100:.0f} % interval {_pairs(one.low)} to "
            f"{_pairs(one.high)}, from {people}: an attack that picks the forgotten patient in up to {_most(one)} "
            "of 100 pairs is not ruled out"
        )

    if not figures:
        lines.append("membership was not measured: it is unknown whether an attack can tell who was forgotten")
    return Acceptance(
        tuple(lines),
        # The warning is about the margin of the rule that the outcome rests on.
        _warning(
            outcome, margin if grounds is None or grounds.qualification is None else float(grounds.qualification.margin)
        ),
        min((one.patients for one in figures), default=0),
        max(map(_most, figures), default=None),
        None if margin is None else _pairs(0.5 + margin),
        outcome,
        grounds,
    )


def accepted_by(statement: Unlearning) -> Acceptance | None:
    """The acceptance that an attestation states; None for a retrained model of a statement without grounds."""
    decision = statement.decision
    if statement.method.name == RETRAINED and decision.grounds is None:
        return None
    figures = [
        Figure(
            metric.name.removeprefix(MEMBERSHIP).partition(",")[0],
            float(metric.value),
            float(metric.low),
            float(metric.high),
            float(metric.level),
            metric.n,
        )
        for metric in statement.metrics
        if metric.name.startswith(MEMBERSHIP)
    ]
    text = acceptance(figures, _margin(statement), decision.outcome, decision.grounds)
    if statement.frozen is None:
        return text
    return replace(text, lines=(*text.lines[:1], statement.frozen.text, *text.lines[1:]))


def _rests_elsewhere(grounds: Grounds | None) -> bool:
    return grounds is not None and grounds.rung != "own"


def _margin(statement: Unlearning) -> float | None:
    if statement.decision.margin:
        return float(statement.decision.margin)
    match = next((band for reason in statement.decision.reasons if (band := _BAND.search(reason))), None)
    return None if match is None else round((float(match[2]) - float(match[1])) / 2, 6)


def _rule(margin: float | None) -> str:
    if margin is None:
        return "what the rule allowed is not stated"
    return (
        "the rule accepts a model if an attack picks the forgotten patient, paired with a never-seen one, in "
        f"{_pairs(0.5 - margin)} to {_pairs(0.5 + margin)} of 100 pairs, by the whole 90 % interval of each branch; "
        "50 is chance"
    )


def _warning(outcome: Outcome, margin: float | None) -> str:
    # The margin is a rounded decimal in a statement: the default itself must not warn.
    if margin is None or margin <= USUAL_MARGIN + 1e-9:
        return ""
    return (
        f"WIDE MARGIN: the rule of this campaign allows up to {_pairs(0.5 + margin)} of 100 pairs (margin {margin:g}), "
        f"while FedForget's default allows {_pairs(0.5 + USUAL_MARGIN)} (margin {USUAL_MARGIN:g}): "
        f"`{outcome}` means less here than usual"
    )


def _pairs(share: float) -> int:
    return round(100 * min(1.0, max(0.0, share)))


def _most(figure: Figure) -> int:
    """Of 100 pairs; an AUC far below .5 reveals as much as one above it, as the attacker can guess the opposite."""
    return _pairs(max(figure.high, 1 - figure.low))
