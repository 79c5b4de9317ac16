"""Growth of each figure with the number of hospitals, as an exponent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from simulations.scale.result import STAGES, Size, StageName

FLAT = 0.15
STRAIGHT = 0.85
STEEP = 1.15
"""Exponents up to FLAT are called flat, from STRAIGHT to STEEP a straight line."""

Read = Callable[[Size], float | None]


class Growth(BaseModel):
    """One figure over the sizes.

    Attributes:
        exponent: b of the least-squares fit y = a * n^b over all sizes; None for less than two.
        last: b between the two largest sizes: what a fixed part hides in `exponent` shows here.
        each: increase per additional hospital, between the two largest sizes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    unit: str
    values: tuple[float | None, ...]
    exponent: float | None
    last: float | None
    each: float | None

    @property
    def verdict(self) -> str:
        """In words, by the last step."""
        if self.last is None:
            return "not known"
        if self.last <= FLAT:
            return "flat"
        if self.last < STRAIGHT:
            return "slower than linear"
        return "linear" if self.last <= STEEP else "FASTER THAN LINEAR"


def figures() -> tuple[tuple[str, str, Read], ...]:
    """Name, unit and reader of each figure."""

    def server(stage: StageName) -> Read:
        return lambda size: size.stages[stage].server

    measures: list[tuple[str, str, Read]] = [(f"Server: {STAGES[stage]}", "s", server(stage)) for stage in STAGES]
    measures += [
        ("Server: merging all audits", "s", lambda size: size.merge),
        ("Server: peak memory above the start", "MiB", lambda size: size.peak),
        ("Up: a round", "MB", lambda size: size.stages["round"].up / 1e6),
        ("Down: a round", "MB", lambda size: size.stages["round"].down / 1e6),
        ("Slowest hospital: a round", "s", lambda size: size.stages["round"].slowest),
        ("All hospitals: a round", "s", lambda size: size.stages["round"].hospitals),
        ("A round, hospitals at once", "s", lambda size: size.stages["round"].at_once),
        ("To forget, hospitals at once", "s", lambda size: size.forget),
    ]

    return tuple(measures)


def growth(sizes: Sequence[Size]) -> tuple[Growth, ...]:
    """Growth of every figure over `sizes`, which rise."""
    counts = [size.hospitals for size in sizes]
    return tuple(_growth(name, unit, counts, [read(size) for size in sizes]) for name, unit, read in figures())


def _growth(name: str, unit: str, counts: Sequence[int], values: Sequence[float | None]) -> Growth:
    points = [(n, y) for n, y in zip(counts, values, strict=True) if y is not None and y > 0]
    exponent = last = each = None

    if len(points) > 1:
        # A power of n is a straight line on logarithmic axes; its slope is the exponent.
        exponent = float(np.polyfit([math.log(n) for n, _ in points], [math.log(y) for _, y in points], 1)[0])
        (n, y), (more, above) = points[-2:]
        last = math.log(above / y) / math.log(more / n)
        each = (above - y) / (more - n)

    return Growth(name=name, unit=unit, values=tuple(values), exponent=exponent, last=last, each=each)
