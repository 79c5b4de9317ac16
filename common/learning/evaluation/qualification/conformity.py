"""Does a real campaign look like the rehearsals of its procedure, in margins and in process?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from common.learning.evaluation.figures import Figures, Finite
from common.learning.evaluation.qualification.figures import Spread

LEVEL = 0.05
_LEAST = 1e-12


class Process(Figures):
    """How an unlearning went, as the coordinator sees it."""

    patients: int = Field(ge=1)
    gap: Finite
    """Largest target gap at the end, over the branches."""
    norm: Finite
    """L2 norm of the step by which the candidate differs from its parent after unlearning."""
    passes: int = Field(ge=0)
    reached: bool
    """Whether unlearning stopped because the targets were reached, not because its passes were used up."""


class Conformity(Figures):
    """p of a campaign among the rehearsals, p = (1 + #{S_m >= S})/(M + 1), in margins and in process."""

    p: Spread
    """Of both together: twice the smaller one."""
    p_margins: Spread
    p_process: Spread
    distance: Spread
    conforms: bool
    reasons: tuple[str, ...] = ()


def conforms(
    distances: Sequence[float], distance: float, processes: Sequence[Process], process: Process, level: float = LEVEL
) -> Conformity:
    """Judge a campaign; `distances` and `processes` are those of the rehearsals.

    If the campaign is drawn as the rehearsals are, it is found not to conform with probability `level` at most, for any
    distribution.
    """
    # Rehearsals report their distance rounded; an unrounded one would win or lose ties that it must share.
    shown_distance = round(distance, 1)
    p_margins = (1 + sum(other >= shown_distance for other in distances)) / (len(distances) + 1)
    # The campaign is judged among all, itself included: only then are all ranks equally likely.
    oddness = _oddness([*processes, process])
    p_process = float((oddness >= oddness[-1]).mean())
    # Bonferroni over the two tests, margins and process.
    p = min(1.0, 2 * min(p_margins, p_process))
    reasons = []

    if 2 * p_margins <= level:
        reasons.append(f"margins: no rehearsal of {len(distances)} was as far from never-seen patients")
    if 2 * p_process <= level:
        reasons.append(f"process: {_oddest(processes, process)} is unlike that of {len(processes)} rehearsals")

    return Conformity(
        p=p,
        p_margins=p_margins,
        p_process=p_process,
        distance=shown_distance,
        conforms=p > level,
        reasons=tuple(reasons),
    )


def _values(processes: Sequence[Process]) -> np.ndarray:
    """`[M, 4]`: gap and norm on a logarithmic scale, since both spread with their size, passes, and the stop."""
    return np.array(
        [(np.log(p.gap + 0.01), np.log(p.norm + _LEAST), float(p.passes), float(p.reached)) for p in processes]
    )


_NAMES = ("target gap at the end", "norm of the step", "number of passes", "reason to stop")


def _oddness(processes: Sequence[Process]) -> np.ndarray:
    """Largest deviation of each from the middle of all, in units of the usual one; symmetric in its arguments."""
    return np.asarray(_deviations(processes).max(axis=1))


def _deviations(processes: Sequence[Process]) -> np.ndarray:
    values = _values(processes)
    middle = np.median(values, axis=0)
    # 1.4826 makes the median deviation comparable with a normal standard deviation.
    spread = 1.4826 * np.median(np.abs(values - middle), axis=0)
    # Passes and the stop are often the same in all: then any other value stands out.
    least = np.array([0.05, 0.05, 1.0, 0.1])

    return np.asarray(np.abs(values - middle) / np.maximum(spread, least))


def _oddest(processes: Sequence[Process], process: Process) -> str:
    return _NAMES[int(_deviations([*processes, process])[-1].argmax())]
