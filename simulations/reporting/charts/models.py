"""The key picture: what an attacker can tell, per branch and model, and what the model is still worth."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from common.learning.config import DecisionConfig
from simulations.reporting.charts.drawing import LIGHT, name_axes
from simulations.reporting.palette import BRANCHES, MARKERS, MODELS, models_of
from simulations.result import Branch, GroupName, ModelName, Result


def margin(result: Result) -> float:
    """Half-width of the band around .5 in which a model is accepted, as set for this run."""
    experiment = result.config.get("experiment", {})
    return DecisionConfig.model_validate(experiment.get("decision", {})).auc_margin


def draw_models(result: Result) -> Figure:
    """MIA AUC per branch with its intervals above; test AUC, test and forget cross-entropy below; a row per model."""
    names = models_of(result)
    figure = Figure(
        figsize=(8.6, 1.9 + 0.5 * len(names)),
        layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08, hspace=0.06, wspace=0.05),
    )
    grid = figure.subplots(2, 3, sharey=True)
    for axes, branch in zip(grid[0], BRANCHES, strict=True):
        _membership(axes, result, names, branch)
    _utility(grid[1][0], result, names, "test", "auc", "Test AUC", "higher is better")
    _utility(grid[1][1], result, names, "test", "ce_mean", "Test cross-entropy", "nats, lower is better")
    _utility(grid[1][2], result, names, "forget", "ce_mean", "Forget cross-entropy", "nats, the ring is the aim")
    handles = [
        Patch(facecolor=LIGHT["band"], label=f"acceptance band .5 ± {margin(result):.2f}"),
        Line2D([], [], color=LIGHT["quiet"], linewidth=4, label="90\u00a0% interval"),
        Line2D([], [], color=LIGHT["quiet"], linewidth=1.2, label="95\u00a0% interval"),
        Line2D(
            [],
            [],
            linestyle="none",
            markerfacecolor="none",
            markeredgecolor=LIGHT["quiet"],
            marker="o",
            label="never-seen patients",
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=1.6)

    return figure


def _rows(axes: Axes, names: Sequence[ModelName]) -> None:
    axes.set_yticks(range(len(names)), [MODELS[n] for n in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", labelcolor=LIGHT["ink"])
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _print_value(axes: Axes, row: int, value: float) -> None:
    axes.text(1.03, row, f"{value:.2f}", va="center", fontsize=8, transform=axes.get_yaxis_transform())


def _membership(axes: Axes, result: Result, names: Sequence[ModelName], branch: Branch) -> None:
    half = margin(result)
    axes.axvspan(0.5 - half, 0.5 + half, color=LIGHT["band"], linewidth=0)
    axes.axvline(0.5, color=LIGHT["quiet"], linewidth=0.8, linestyle=(0, (3, 2)))
    lowest = 0.3

    for row, name in enumerate(names):
        mia = result.models[name].mia.get(branch)
        if mia is None or mia.auc is None:
            axes.text(0.5, row, "not available", ha="center", va="center", fontsize=7.5, color=LIGHT["quiet"])
            continue

        for interval, width in ((mia.ci95, 1.2), (mia.ci90, 4)):
            if interval:
                axes.plot(interval, [row, row], color=LIGHT[name], linewidth=width, solid_capstyle="butt")
                lowest = min(lowest, interval[0])

        axes.plot(mia.auc, row, MARKERS[name], color=LIGHT[name], markersize=6.5, markeredgecolor=LIGHT["page"])
        _print_value(axes, row, mia.auc)
        lowest = min(lowest, mia.auc)

    axes.set_xlim(0.0 if lowest < 0.25 else 0.2, 1.0)
    _rows(axes, names)
    name_axes(axes, f"MIA AUC, {BRANCHES[branch].lower()}", "← over-forgot    (aim .5)    remembers →")


def _utility(
    axes: Axes, result: Result, names: Sequence[ModelName], group: GroupName, field: str, title: str, unit: str
) -> None:
    values = [getattr(getattr(result.models[name], group), field) for name in names]
    unseen = [result.models[name].never_seen.ce_mean if group == "forget" else None for name in names]

    for row, (name, value, aim) in enumerate(zip(names, values, unseen, strict=True)):
        # The ring comes first, so that the model's own marker lies above it.
        if aim is not None:
            axes.plot(aim, row, "o", color="none", markeredgecolor=LIGHT["quiet"], markersize=6.5)
        if value is None:
            axes.text(0.0, row, "not available", va="center", fontsize=7.5, color=LIGHT["quiet"])
            continue

        # AUC starts at .5, where a model knows nothing; cross-entropy at 0.
        start = 0.0 if field != "auc" else 0.5
        # AUC starts at .5, where a model knows nothing; cross-entropy at 0.
        axes.plot([start, value], [row, row], color=LIGHT[name], linewidth=1.2)
        axes.plot(value, row, MARKERS[name], color=LIGHT[name], markersize=6.5, markeredgecolor=LIGHT["page"])
        _print_value(axes, row, value)

    numbers = [v for v in (*values, *unseen) if v is not None]
    if field == "auc":
        axes.set_xlim(min([0.5, *(v - 0.05 for v in numbers)]), 1.0)
    else:
        axes.set_xlim(0.0, 1.15 * max(numbers, default=1.0))

    _rows(axes, names)
    name_axes(axes, title, unit)
