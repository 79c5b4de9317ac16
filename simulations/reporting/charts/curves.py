"""Curves that can be had from binned counts alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.learning.evaluation.histograms import EDGES
from simulations.result import Histogram

Floats = NDArray[np.float64]

LOSS_RANGE = (EDGES[1] / 1.5, EDGES[-2] * 1.5)
"""Nats between which losses are drawn: the outermost bins are open and end where the axis does."""


def log_density(histogram: Histogram) -> tuple[Floats, Floats]:
    """Share of patients per factor of ten of the loss: `(edges [bins + 1], heights [bins])`.

    On an axis in powers of ten the area is 1, however wide the bins.
    """
    edges = np.clip(np.asarray(histogram.edges, dtype=np.float64), *LOSS_RANGE)
    counts = np.asarray(histogram.counts, dtype=np.float64)
    widths = np.diff(np.log10(edges))
    # An edge bin that lies outside the drawn range has no width left.
    visible = widths > 0
    heights = counts[visible] / (max(counts.sum(), 1.0) * widths[visible])

    return np.concatenate([edges[:-1][visible], edges[-1:]]), np.asarray(heights)


def binned_roc(forget: Histogram | None, never_seen: Histogram | None) -> tuple[Floats, Floats] | None:
    """ROC of "a low loss means a member" at the edges that both histograms have; `(fpr, tpr)`, each `[points]`.

    None where no edge lies between the outermost ones, as with few patients, so that nothing could be told.
    The points are exact, the line between them is not: where the order inside a bin is unknown it is drawn straight.
    """
    if forget is None or never_seen is None:
        return None
    # Cells under five patients are merged, so that the two groups may have different edges.
    edges = np.intersect1d(forget.edges, never_seen.edges)
    if len(edges) < 3:
        return None
    tpr = _share_below(forget, edges)
    fpr = _share_below(never_seen, edges)

    return np.concatenate([[0.0], fpr, [1.0]]), np.concatenate([[0.0], tpr, [1.0]])


def _share_below(histogram: Histogram, edges: Floats) -> Floats:
    below = np.concatenate([[0], np.cumsum(histogram.counts)]) / max(sum(histogram.counts), 1)
    return np.asarray(below[np.searchsorted(histogram.edges, edges)])
