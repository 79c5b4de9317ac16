"""Loss distributions before and after, and the curve of the attack, both from binned counts."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from simulations.reporting.charts.curves import LOSS_RANGE, binned_roc, log_density
from simulations.reporting.charts.drawing import LIGHT, Line, name_axes
from simulations.reporting.palette import BRANCHES, GROUPS, MARKERS, MODELS, models_of
from simulations.result import Branch, GroupName, ModelName, Result

_STAGES: dict[ModelName, str] = {"original": "before", "unlearned": "after", "retrained": "the aim"}
_LINES: dict[GroupName, Line] = {
    "retain": (0, (1.2, 1.2)),
    "never_seen": (0, (5, 2)),
    "forget": "-",
}


def has_histograms(result: Result) -> bool:
    """Whether any model of the run carries loss distributions."""
    return any(model.loss_histograms for model in result.models.values())


def draw_losses(result: Result) -> Figure:
    """Density of the loss per patient: a row per branch; original, unlearned and (where there is one) retrained."""
    stages = [name for name in _STAGES if name in result.models]
    figure = Figure(figsize=(8.6, 6.4), layout="constrained")
    grid = figure.subplots(len(BRANCHES), len(stages), sharex="row", sharey="row", squeeze=False)

    for row, branch in enumerate(BRANCHES):
        complete = True
        for column, name in enumerate(stages):
            axes = grid[row][column]
            complete = _densities(axes, result, name, branch) and complete
            title = f"{BRANCHES[branch]}: {MODELS[name].lower()} ({_STAGES[name]})"
            name_axes(
                axes,
                title,
                "loss per patient (nats)" if row == 2 else "",
                "share per decade" if column == 0 else "",
            )

        top = grid[row][0].get_ylim()[1]
        # Room at the top for the note that some groups are too small.
        grid[row][0].set_ylim(0, top if complete else 1.35 * top)

    handles = [
        Line2D([], [], color=LIGHT[g], linestyle=_LINES[g], label=f"{GROUPS[g].lower()} patients")
        for g in reversed(_LINES)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=3)

    return figure


def draw_roc(result: Result) -> Figure:
    """ROC of "a low loss means a member", a panel per branch, a line per model, points where bins meet."""
    figure = Figure(figsize=(8.6, 3.5), layout="constrained")
    grid = figure.subplots(1, len(BRANCHES), sharey=True)
    names = models_of(result)

    for axes, branch in zip(grid, BRANCHES, strict=True):
        axes.plot([0, 1], [0, 1], color=LIGHT["quiet"], linewidth=0.8, linestyle=(0, (3, 2)))
        absent = []

        for name in names:
            histograms = result.models[name].loss_histograms.get(branch, {})
            curve = binned_roc(histograms.get("forget"), histograms.get("never_seen"))

            if curve is None:
                absent.append(MODELS[name].lower())
            else:
                fpr, tpr = curve
                axes.plot(fpr, tpr, color=LIGHT[name], marker=MARKERS[name], markersize=3.5, linewidth=1.4)

        if absent:
            _say(axes, "too few patients for a curve:\n" + ",\n".join(absent), y=0.06)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        name_axes(axes, f"{BRANCHES[branch]} (binned)", "never-seen taken for members (share)")

    grid[0].set_ylabel("forget patients found (share)")
    handles = [Line2D([], [], color=LIGHT[n], marker=MARKERS[n], markersize=5, label=MODELS[n]) for n in names]
    handles.append(Line2D([], [], color=LIGHT["quiet"], linewidth=0.8, linestyle=(0, (3, 2)), label="cannot tell (.5)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5)

    return figure


def _densities(axes: Axes, result: Result, name: ModelName, branch: Branch) -> bool:
    histograms = result.models[name].loss_histograms.get(branch, {})
    for group, line in _LINES.items():
        if group in histograms and len(histograms[group].counts) > 1:
            edges, heights = log_density(histograms[group])
            # Only the forget group is filled: three fills over one another could not be told apart.
            if group == "forget":
                axes.stairs(heights, edges, fill=True, color=LIGHT[group], alpha=0.22, linewidth=0)
            axes.stairs(heights, edges, color=LIGHT[group], linestyle=line, linewidth=1.5)

    absent = [GROUPS[g].lower() for g in _LINES if g not in histograms or len(histograms[g].counts) < 2]
    if absent:
        _say(axes, "too few patients for bins:\n" + ", ".join(absent))
    axes.set_xscale("log")
    axes.set_xlim(*LOSS_RANGE)
    axes.xaxis.set_major_locator(FixedLocator([0.01, 0.1, 1, 10]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())

    return not absent


def _say(axes: Axes, text: str, y: float = 0.94) -> None:
    side = "top" if y > 0.5 else "bottom"
    axes.text(0.96, y, text, ha="right", va=side, fontsize=7.5, color=LIGHT["quiet"], transform=axes.transAxes)
