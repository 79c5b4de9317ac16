"""What the rule that accepted a model could have seen: group, interval and margin, in words. Pure.

An AUC of membership is the share of pairs, of a forgotten and a never-seen patient, of which an attack picks the
forgotten one: 50 of 100 is chance. Every surface that says `accepted` says this too, from here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from common.evidence.statements import Unlearning

USUAL_MARGIN = 0.10
"""Of `DecisionConfig.auc_margin`, where nobody sets another."""
MEMBERSHIP = "membership AUC, "
"""How the names of figures begin that are about membership; the branch follows."""
RETRAINED = "retrained"
_BAND = re.compile(r"every branch within (0\.\d+) to (0\.\d+)")
"""How statements from before the margin was a field of its own say it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """An AUC of membership on one branch, with its interval at `level`, from so many forgotten patients."""

    branch: str
    value: float
    low: float
    high: float
    level: float
    patients: int


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What the rule could have seen.

    Attributes:
        lines: the rule, then every branch.
        warning: where the margin is wider than usual; empty otherwise.
        patients: the fewest behind a figure; 0 without figures.
        most: pairs of 100 in which an attack may tell who was forgotten, by the widest interval; None without figures.
        allowed: pairs of 100 that the rule allows; None where the margin is not known.
    """

    lines: tuple[str, ...]
    warning: str
    patients: int = 0
    most: int | None = None
    allowed: int | None = None


def acceptance(figures: Sequence[Figure], margin: float | None) -> Acceptance:
    """In words.

    Args:
        figures: of all branches that were judged.
        margin: half-width of the band around .5 that is accepted; None where it is not known.
    """
    lines = [_rule(margin)]

    for one in figures:
        people = f"{one.patients} forgotten patient{'' if one.patients == 1 else 's'}"
        lines.append(
            f"{one.branch}: {_pairs(one.value)} of 100 pairs, {one.level * 100:.0f} % interval {_pairs(one.low)} to "
            f"{_pairs(one.high)}, from {people}: it cannot be excluded that a model gives them away in up to "
            f"{_most(one)} of 100 pairs"
        )

    if not figures:
        lines.append("membership was not measured: nobody can say whether an attack tells who was forgotten")
    return Acceptance(
        tuple(lines),
        _warning(margin),
        min((one.patients for one in figures), default=0),
        max(map(_most, figures), default=None),
        None if margin is None else _pairs(0.5 + margin),
    )


def accepted_by(statement: Unlearning) -> Acceptance | None:
    """What an attestation says of it; None of a model that was trained anew, which no such rule accepted."""
    if statement.method.name == RETRAINED:
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
    return acceptance(figures, _margin(statement))


def _margin(statement: Unlearning) -> float | None:
    if statement.decision.margin:
        return float(statement.decision.margin)
    match = next((band for reason in statement.decision.reasons if (band := _BAND.search(reason))), None)
    return None if match is None else round((float(match[2]) - float(match[1])) / 2, 6)


def _rule(margin: float | None) -> str:
    if margin is None:
        return "what the rule allowed is not stated"
    return (
        f"the rule accepts a model of which an attack picks the forgotten patient in {_pairs(0.5 - margin)} to "
        f"{_pairs(0.5 + margin)} of 100 pairs with a never-seen one, each with a 90 % interval; 50 is chance"
    )


def _warning(margin: float | None) -> str:
    if margin is None or margin <= USUAL_MARGIN + 1e-9:
        return ""
    return (
        f"WIDE MARGIN: the rule of this campaign allows up to {_pairs(0.5 + margin)} of 100 pairs (margin {margin:g}), "
        f"where FedForget's default allows {_pairs(0.5 + USUAL_MARGIN)} (margin {USUAL_MARGIN:g}): "
        "`accepted` says less here than usual"
    )


def _pairs(share: float) -> int:
    return round(100 * min(1.0, max(0.0, share)))


def _most(figure: Figure) -> int:
    """Of 100 pairs: an AUC far below .5 tells as much as one above it, by the opposite guess."""
    return _pairs(max(figure.high, 1 - figure.low))
