"""Cells of the report's tables: every figure is looked up by its path in `result.json`, so the two cannot differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from simulations.reporting.palette import GROUPS
from simulations.result import Result

Path = tuple[str | int, ...]
DASH = "—"


def score(value: float) -> str:
    """Three decimals, as for an AUC or a cross-entropy."""
    return f"{value:.3f}"


def p_value(value: float) -> str:
    """Three decimals; below .001 two significant digits."""
    return f"{value:.3f}" if value >= 0.001 or value == 0 else f"{value:.1e}"


def count(value: float) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u2009")


def seconds(value: float) -> str:
    """Seconds, or minutes and hours where these read better."""
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def size(value: float) -> str:
    """Bytes in decimal units."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.1f} {unit}"

    return f"{value:.0f} B"


@dataclass(frozen=True, slots=True)
class Shown:
    """One figure as it stands in the page, with its path and exact value in `result.json`."""

    path: str
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Cell:
    """Figures and the words between them; `note` numbers the reason of a missing one, `under` is a second line."""

    parts: tuple[Shown | str, ...]
    note: int | None = None
    under: tuple[Shown | str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: its name, how to read it, a cell per column."""

    name: str
    hint: str
    cells: tuple[Cell, ...]
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """Rows of a table under a heading of their own; `hint` says how to read them all."""

    title: str
    rows: tuple[Row, ...]
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the page; `head` names the columns after the first."""

    caption: str
    corner: str
    head: tuple[str, ...]
    sections: tuple[Section, ...]


@dataclass
class Lookup:
    """Reads figures out of one result and numbers the reasons of those that are missing."""

    result: Result
    reasons: list[str] = field(default_factory=list)
    _values: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        # As JSON, because paths are those of the file.
        self._values = self.result.model_dump(mode="json")

    def value(self, *path: str | int) -> float | None:
        """The number at `path`, or None where it is null or was not computed."""
        node: Any = self._values

        for part in path:
            try:
                node = node[part]
            except (KeyError, IndexError, TypeError):
                return None

        return node if isinstance(node, int | float) else None

    def cell(self, *path: str | int, form: Callable[[float], str] = score) -> Cell:
        """The figure at `path`, or a dash with a note."""
        text = self._shown(path, form)
        return Cell((text,)) if text else self.dash(path)

    def interval(self, *path: str | int) -> Cell:
        """The pair at `path` as `0.41 to 0.57`."""
        low = self._shown((*path, 0), score)
        high = self._shown((*path, 1), score)
        return Cell((low, " to ", high)) if low and high else self.dash(path)

    def with_interval(self, *path: str | int, interval: str) -> Cell:
        """The figure at `path` with the pair named `interval` beside it on a second line."""
        cell = self.cell(*path)
        return cell if cell.note else replace(cell, under=self.interval(*path[:-1], interval).parts)

    def dash(self, path: Path) -> Cell:
        """An em dash that points at the reason for the figure missing at `path`."""
        reason = self.reason(path)
        if reason not in self.reasons:
            self.reasons.append(reason)
        return Cell((DASH,), self.reasons.index(reason) + 1)

    def reason(self, path: Path) -> str:
        """Why the figure at `path` is missing, as the run recorded it for the figure or for what holds it.

        An interval is missing for the reason of its AUC, and a hospital's figure for that of all hospitals.
        """
        values = {
            # Compared without `groups`, which stands in some of the paths only.
            missing.path.replace(".groups.", "."): missing.reason
            for name, model in self.result.models.items()
            if path[:2] == ("models", name)
            for missing in model.missing
        }
        for tail in _holders(path[2:]):
            if tail in values:
                return values[tail]

        return "not computed in this run; no reason was recorded"

    def _shown(self, path: Path, form: Callable[[float], str]) -> Shown | None:
        value = self.value(*path)
        return None if value is None else Shown(".".join(map(str, path)), value, form(value))


def _holders(tail: Path) -> Iterator[str]:
    """Paths under which a run may have recorded why the figure at `tail` of a model is missing, nearest first."""
    if tail[0] == "mia_by_site":
        tail = ("mia", *tail[2:])
    elif tail[0] in GROUPS:
        tail = ("branches", "fused", *tail)

    tail = tuple(part for part in tail if part != "groups")
    if tail[-1] in ("ci90", "ci95"):
        tail = (*tail[:-1], "auc")
    for end in range(len(tail), 0, -1):
        yield ".".join(map(str, tail[:end]))
