"""What an outcome by qualification rests on: the rehearsed patients of each branch, and this campaign among them."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from simulations.reporting.charts.drawing import LIGHT, name_axes
from simulations.reporting.palette import BRANCHES
from simulations.result import RehearsalsResult


def draw_rehearsals(rehearsals: RehearsalsResult) -> Figure:
    """Left: the difference from never-seen patients before and after rehearsals. Right: all distances."""
    figure = Figure(figsize=(8.6, 2.9), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08, wspace=0.08))
    left_axes, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _differences(left_axes, rehearsals)
    _distances(right, rehearsals)
    handles = [
        Patch(facecolor=LIGHT["band"], label=f"allowed ±{rehearsals.margin:.2f}"),
        Line2D([], [], color=LIGHT["original"], marker="o", linestyle="none", label="before"),
        Line2D([], [], color=LIGHT["unlearned"], marker="s", linewidth=4, label="after, 90\u00a0% interval"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=1.6)

    return figure


def _differences(axes: Axes, rehearsals: RehearsalsResult) -> None:
    axes.axvspan(-rehearsals.margin, rehearsals.margin, color=LIGHT["band"], linewidth=0)
    axes.axvline(0.0, color=LIGHT["quiet"], linewidth=0.8, linestyle=(0, (3, 2)))

    for row, branch in enumerate(BRANCHES):
        values = rehearsals.branches[branch]
        axes.plot(values.original, row, "o", color=LIGHT["original"], markersize=6)
        axes.plot((values.low, values.high), [row, row], color=LIGHT["unlearned"], linewidth=4, solid_capstyle="butt")
        axes.plot(values.difference, row, "s", color=LIGHT["unlearned"], markersize=5, markeredgecolor=LIGHT["page"])

    axes.set_yticks(range(len(BRANCHES)), list(BRANCHES.values()))
    axes.set_ylim(len(BRANCHES) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    name_axes(axes, "Rehearsed patients against never-seen ones", "← over-forgot    (aim 0)    remembers →")


def _distances(axes: Axes, rehearsals: RehearsalsResult) -> None:
    axes.hist(rehearsals.distances, bins=12, color=LIGHT["never_seen"], alpha=0.35)
    axes.axvline(rehearsals.distance, color=LIGHT["unlearned"], linewidth=2)
    # Heights are not read: the question is where this campaign lies among them.
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    name_axes(axes, "This campaign among its rehearsals", "distance (line: this campaign)")
