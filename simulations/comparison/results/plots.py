"""Charts of a comparison: forgetting against utility, and the attack's curve on log axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simulations.comparison.cell_result import Roc
from simulations.comparison.plan import ORIGINAL, RETRAINED
from simulations.comparison.results.summary import MEASURED, Mean, Metric, Row
from simulations.reporting.charts.drawing import LIGHT, Line, name_axes

_BY_KEY = {metric.key: metric for metric in MEASURED}
_COLOURS = ("unlearned", "naive", "forget", "retain", "inconclusive", "rejected", "quiet", "never_seen")
_MARKERS = ("^", "s", "v", "P", "X", "<", ">", "h", "p", "*", "d", "8", "H", "o", "D")
_LINES: tuple[Line, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))


def draw_trade_off(all_rows: Sequence[Row]) -> Figure:
    """MIA loss AUC against test AUC and against cross-entropy; dashed lines cross where retrained stands."""
    figure = Figure(figsize=(8.6, 4.6), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2, sharey=True), ("test_auc", "test_ce"), strict=True):
        _scatter(axes, all_rows, _BY_KEY[key])
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.axes[0].set_ylabel("MIA loss AUC, fused (.5 cannot tell)")
    figure.legend(handles, labels, loc="outside lower center", ncols=3)

    return figure


def _scatter(axes: Axes, all_rows: Sequence[Row], across: Metric) -> None:
    xs = []
    ys = []

    for number, row in enumerate(all_rows):
        x = row.mean(across.read)
        y = row.mean(_BY_KEY["mia_auc"].read)
        if x is None or y is None:
            continue
        xs.append(x.value)
        ys.append(y.value)
        colour, marker = look(row, number)
        if row.method == RETRAINED:
            axes.axvline(x.value, color=LIGHT[colour], linewidth=0.8, linestyle=(0, (3, 2)))
            axes.axhline(y.value, color=LIGHT[colour], linewidth=0.8, linestyle=(0, (3, 2)))

        axes.errorbar(
            x.value, y.value, xerr=_bars(x), yerr=_bars(y), color=LIGHT[colour], marker=marker, markersize=6,
            linestyle="none", elinewidth=0.8, label=row.name,
        )  # fmt: skip

    if xs:
        axes.set_xlim(_limits(xs))
        axes.set_ylim(_limits(ys))

    name_axes(axes, f"Forgetting against {across.title}", f"{across.title}, fused ({across.aim})")


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Around the means: with few seeds intervals are so long that nothing else could be seen."""
    room = max(0.05, 0.4 * (max(values) - min(values)))
    return min(values) - room, max(values) + room


def _bars(mean: Mean) -> list[list[float]] | None:
    # Of two seeds the interval is 13 standard errors long on each side, and would cross the whole picture.
    if mean.interval is None or mean.seeds < 3:
        return None
    return [[mean.value - mean.interval[0]], [mean.interval[1] - mean.value]]


def draw_log_roc(all_rows: Sequence[Row]) -> Figure:
    """ROC of the membership attack on log axes, fused: mean over seeds of the share found by share of false alarms."""
    figure = Figure(figsize=(8.6, 5.4), layout="constrained")
    axes = figure.subplots()
    # A log axis has no 0: curves begin at the smallest share that the never-seen patients can show.
    least = 1 / max((len(entry.cell.roc.fpr) for row in all_rows for entry in row.pairs), default=100)
    across = np.geomspace(least, 1, 100)
    axes.plot(across, across, color=LIGHT["quiet"], linewidth=0.8, linestyle=(0, (3, 2)), label="cannot tell")

    for number, row in enumerate(all_rows):
        colour, _ = look(row, number)
        curve = np.mean([found_at(entry.cell.roc, across) for entry in row.pairs], axis=0)
        axes.plot(
            across, np.maximum(curve, least), color=LIGHT[colour], linewidth=1.3,
            linestyle=_LINES[number % len(_LINES)], label=f"{row.name}: {_said(row)}",
        )  # fmt: skip

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(least, 1.1)
    axes.set_ylim(least, 1.1)
    name_axes(axes, "The attack’s curve", "never-seen taken for members (share)", "forget patients found (share)")
    figure.legend(loc="outside lower center", ncols=2)

    return figure


def found_at(roc: Roc, across: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of forget patients found with at most so many false alarms: a step function, nothing is interpolated."""
    return np.asarray([max(t for f, t in zip(roc.fpr, roc.tpr, strict=True) if f <= x) for x in across])


def _said(row: Row) -> str:
    """Utility beside every curve: that of a destroyed model says nothing."""
    auc, loss = (row.mean(_BY_KEY[key].read) for key in ("test_auc", "test_ce"))
    return ", ".join(f"{name} {mean.value:.2f}" for name, mean in (("test AUC", auc), ("CE", loss)) if mean)


def look(row: Row, number: int) -> tuple[str, str]:
    """Colour and marker of a row."""
    if row.method in (ORIGINAL, RETRAINED):
        return row.method, "o" if row.method == ORIGINAL else "D"
    return _COLOURS[(number - 2) % len(_COLOURS)], _MARKERS[(number - 2) % len(_MARKERS)]


CHARTS: dict[str, Callable[[Sequence[Row]], Figure]] = {"trade-off": draw_trade_off, "roc": draw_log_roc}
