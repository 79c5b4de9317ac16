"""Metrics over the rounds, a column for each phase of the run."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from simulations.reporting.charts.drawing import LIGHT, Line, name_axes
from simulations.reporting.charts.models import margin
from simulations.reporting.palette import BRANCHES, MARKERS, MODELS
from simulations.result import Branch, ModelName, Result, RoundRecord

_PHASES = {"train": "Training", "unlearn": "Unlearning", "retain": "Unlearned, then retention"}
_BRANCH_LINES: dict[Branch, Line] = {
    "image": (0, (5, 2)),
    "text": (0, (1.2, 1.2)),
    "fused": "-",
}
Series = Sequence[tuple[int, float | None]]


def has_figures(result: Result) -> bool:
    """Whether any round of the run carries a figure."""
    return any(_measured(record) for record in result.history)


def draw_history(result: Result) -> Figure:
    """Validation cross-entropy, validation AUC and calibration AUC by round; kept rounds are ringed."""
    phases = [phase for phase in _PHASES if any(r.phase == phase and _measured(r) for r in result.history)]
    longest = {phase: len({r.round for r in result.history if r.phase == phase}) for phase in phases}
    total = sum(longest.values())
    figure = Figure(figsize=(8.6, 6.0), layout="constrained")
    # A phase of one round still needs room for its title.
    widths = [max(longest[phase] / total, 0.28) for phase in phases]
    grid = figure.subplots(
        3, len(phases), sharex="col", sharey="row", squeeze=False, gridspec_kw={"width_ratios": widths}
    )

    for column, phase in enumerate(phases):
        records = [r for r in result.history if r.phase == phase]
        for row, title in enumerate(("cross-entropy", "validation AUC", "forget vs never-seen")):
            axes = grid[row][column]
            _panel(axes, records, row, margin(result))

            if longest[phase] == 1:
                axes.set_xticks([records[0].round])
            else:
                axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))

            name_axes(axes, f"{_PHASES[phase]}: {title}" if column == 0 else _PHASES[phase], "")
            axes.set_xlabel("round" if row == 2 else "")

    for row, label in enumerate(("nats (lower is better)", "AUC (higher is better)", "loss AUC (.5 is the aim)")):
        grid[row][0].set_ylabel(label)
    names = [name for name in MODELS if any(r.model == name for r in result.history)]
    figure.legend(handles=_legend(names, margin(result)), loc="outside lower center", ncols=6)

    return figure


def _measured(record: RoundRecord) -> bool:
    values = (record.train_loss, record.validation_auc, record.validation_ce, *record.calibration_auc.values())
    return any(value is not None for value in values)


def _panel(axes: Axes, records: Sequence[RoundRecord], row: int, half: float) -> None:
    if row == 2:
        axes.axhspan(0.5 - half, 0.5 + half, color=LIGHT["band"], linewidth=0)
    for name in dict.fromkeys(r.model for r in records):
        own = [r for r in records if r.model == name]
        if row == 0:
            _line(axes, name, [(r.round, r.validation_ce) for r in own], own, "-")
            _line(axes, name, [(r.round, r.train_loss) for r in own], [], (0, (1.2, 1.2)))
        elif row == 1:
            _line(axes, name, [(r.round, r.validation_auc) for r in own], own, "-")
        else:
            for branch, line in _BRANCH_LINES.items():
                best = own if branch == "fused" else []
                _line(axes, name, [(r.round, r.calibration_auc.get(branch)) for r in own], best, line)


def _line(
    axes: Axes,
    name: ModelName,
    series: Series,
    marked: Sequence[RoundRecord],
    line: Line,
) -> None:
    points = [(x, y) for x, y in series if y is not None]
    if not points:
        return
    xs, ys = zip(*points, strict=True)
    few = len(points) <= 12
    axes.plot(xs, ys, color=LIGHT[name], linestyle=line, marker=MARKERS[name] if few else "", markersize=3.5)
    best = {r.round for r in marked if r.kept}
    rings = [(x, y) for x, y in points if x in best]
    if rings:
        axes.plot(*zip(*rings, strict=True), "o", color="none", markeredgecolor=LIGHT["ink"], markersize=9)


def _legend(names: Sequence[ModelName], half: float) -> list[Line2D | Patch]:
    grey = LIGHT["quiet"]
    return [
        *(Line2D([], [], color=LIGHT[n], marker=MARKERS[n], markersize=4, label=MODELS[n]) for n in names),
        Line2D(
            [],
            [],
            linestyle="none",
            markerfacecolor="none",
            marker="o",
            markeredgecolor=LIGHT["ink"],
            markersize=8,
            label="round kept",
        ),
        Patch(facecolor=LIGHT["band"], label=f".5 ± {half:.2f}"),
        Line2D([], [], color=grey, linestyle="-", label="validation"),
        Line2D([], [], color=grey, linestyle=(0, (1.2, 1.2)), label="training loss"),
        *(Line2D([], [], color=grey, linestyle=s, label=BRANCHES[b].lower()) for b, s in _BRANCH_LINES.items()),
    ]
