"""Places of what is drawn: curves over rounds, and differences with their intervals. Templates write the SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH = 640
HEIGHT = 220
_LEFT = 52
_RIGHT = 12
_TOP = 12
_BOTTOM = 34
_LINES = 3
_MOST_LABELS = 12


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: its name, its points, and the same as an SVG path's points."""

    name: str
    points: tuple[tuple[float, float], ...]

    @property
    def path(self) -> str:
        """For `polyline`."""
        return " ".join(f"{x},{y}" for x, y in self.points)


@dataclass(frozen=True, slots=True)
class Label:
    """A text beside an axis, and where."""

    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over rounds, which share their axes."""

    lines: tuple[Line, ...]
    across: tuple[Label, ...]
    up: tuple[Label, ...]


def chart(rounds: Sequence[int], curves: Mapping[str, Sequence[float | None]]) -> Chart | None:
    """The places of some curves; None with fewer than two values of each, of which there is no line to draw."""
    values = [value for curve in curves.values() for value in curve if value is not None]
    if not any(sum(value is not None for value in curve) > 1 for curve in curves.values()):
        return None
    low = min(values)
    high = max(values)
    # A curve that does not move lies in the middle.
    padding = 0.05 * (high - low) or 0.05
    low -= padding
    high += padding
    steps = max(rounds) - min(rounds) or 1

    def x(number: int) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (number - min(rounds)) / steps, 1)

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low), 1)

    lines = []
    for name, curve in curves.items():
        points = [(x(number), y(value)) for number, value in zip(rounds, curve, strict=True) if value is not None]
        lines.append(Line(name, tuple(points)))
    every = -(-len(rounds) // _MOST_LABELS)
    heights = [low + (high - low) * part / (_LINES - 1) for part in range(_LINES)]

    return Chart(
        tuple(line for line in lines if line.points),
        tuple(Label(str(number), x(number)) for number in rounds[::every]),
        tuple(Label(f"{value:.2f}", y(value)) for value in heights),
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference with its interval, as places on a line whose middle is zero."""

    name: str
    value: float
    low: float
    high: float
    original: float


@dataclass(frozen=True, slots=True)
class Differences:
    """All of them on one scale, with the band in which they must lie."""

    rows: tuple[Difference, ...]
    band_low: float
    band_high: float
    zero: float
    scale: float
    """The value at the right end."""


def differences(values: Mapping[str, tuple[float, float, float, float]], margin: float) -> Differences:
    """Places of (difference, low, high, difference of the original model) by branch, within `WIDTH`."""
    scale = 1.1 * max(margin, *(abs(number) for row in values.values() for number in row))

    def x(value: float) -> float:
        return round(90 + (WIDTH - 110) * (value + scale) / (2 * scale), 1)

    rows = tuple(Difference(name, *(x(number) for number in row)) for name, row in values.items())
    return Differences(rows, x(-margin), x(margin), x(0.0), scale)
