"""Loss distributions that may leave a site: fixed bins, and no cell with only a few patients."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

EDGES = (0.0, *np.geomspace(0.01, 10.0, 19).round(4).tolist(), 1e9)
"""Edges of 20 bins of the loss in nats, known to every site beforehand; the last bin is open."""

SMALLEST_CELL = 5


class LossHistogram(BaseModel):
    """Patients per bin; `counts[i]` lie in `[edges[i], edges[i + 1])`. Empty where a group is under 5 patients."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    edges: tuple[Annotated[float, Field(ge=0.0, le=EDGES[-1])], ...] = Field(default=(), max_length=len(EDGES))
    counts: tuple[Annotated[int, Field(ge=0, le=10**9)], ...] = Field(default=(), max_length=len(EDGES) - 1)


def histogram(losses: NDArray[np.float64]) -> LossHistogram:
    """Count losses per fixed bin and merge neighbours until no cell is under 5; empty for a smaller group."""
    if len(losses) < SMALLEST_CELL:
        return LossHistogram()
    # `np.histogram` silently drops values outside of the outer edges.
    raw, _ = np.histogram(np.clip(losses, 0.0, EDGES[-1]), bins=np.asarray(EDGES))
    edges = [EDGES[0]]
    counts = []
    cell = 0

    for count, upper in zip(raw.tolist(), EDGES[1:], strict=True):
        cell += count
        if cell >= SMALLEST_CELL:
            counts.append(cell)
            edges.append(upper)
            cell = 0

    # What is left is no cell of its own: it joins the last one, which becomes the open one.
    counts[-1] += cell
    edges[-1] = EDGES[-1]

    return LossHistogram(edges=tuple(edges), counts=tuple(counts))


def merge_histograms(parts: list[LossHistogram]) -> LossHistogram:
    """Add histograms on their common edges."""
    parts = [part for part in parts if part.counts]
    if not parts:
        return LossHistogram()
    # Sites merge their bins differently; only an edge that all of them have divides every count exactly.
    common = sorted(set.intersection(*(set(part.edges) for part in parts)))
    counts = np.zeros(len(common) - 1, dtype=np.int64)
    for part in parts:
        at = np.searchsorted(common, part.edges[:-1], side="right") - 1
        np.add.at(counts, at, part.counts)

    return LossHistogram(edges=tuple(common), counts=tuple(counts.tolist()))


def binned_median(merged: LossHistogram) -> tuple[float, float] | None:
    """The bin `(lower, upper)` that holds the median, which is not known more exactly; None if empty."""
    if not merged.counts:
        return None
    at = int(np.searchsorted(np.cumsum(merged.counts), sum(merged.counts) / 2))
    return merged.edges[at], merged.edges[at + 1]
