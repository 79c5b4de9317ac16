"""What forgetting costs against training again."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from simulations.reporting.cells import count, seconds, size
from simulations.reporting.charts.drawing import LIGHT, name_axes
from simulations.result import Cost, Result

_MEASURES: tuple[tuple[str, str, Callable[[float], str], Callable[[Cost], float]], ...] = (
    ("Work", "forward units", count, lambda cost: cost.forward_units),
    ("Time", "seconds", seconds, lambda cost: cost.seconds),
    ("Traffic of all sites", "bytes, up and down", size, lambda cost: float(cost.bytes_up + cost.bytes_down)),
)


def yardstick(result: Result) -> tuple[str, Cost]:
    """What forgetting is measured against: retraining, or the first training where the run left retraining out."""
    if "retrain" in result.cost:
        return "Retraining", result.cost["retrain"]
    return "First training", result.cost.get("train", Cost())


def ratio(result: Result) -> float | None:
    """Forward units of unlearning and retention over those of the yardstick."""
    against = yardstick(result)[1].forward_units
    parts = [result.cost.get("unlearn", Cost()), result.cost.get("retain", Cost())]
    return sum(part.forward_units for part in parts) / against if against else None


def draw_cost(result: Result) -> Figure:
    """A panel for work, time and traffic: forgetting (unlearning and retention, stacked) above the yardstick."""
    name, against = yardstick(result)
    unlearn = result.cost.get("unlearn", Cost())
    retain = result.cost.get("retain", Cost())
    figure = Figure(figsize=(8.6, 2.3), layout="constrained")
    grid = figure.subplots(1, 3, sharey=True)

    for axes, (title, unit, form, of) in zip(grid, _MEASURES, strict=True):
        first = of(unlearn)
        second = of(retain)
        other = of(against)
        axes.barh(0, first, color=LIGHT["unlearned"], height=0.52)
        axes.barh(0, second, left=first, color=LIGHT["retain"], height=0.52, hatch="////", edgecolor=LIGHT["page"])
        axes.barh(1, other, color=LIGHT["retrained"], height=0.52)
        # Never 0: the axis' range and the place of the texts are parts of it.
        widest = max(first + second, other, 1e-12)
        for row, value in enumerate((first + second, other)):
            axes.text(value + widest * 0.03, row, form(value), va="center")
        axes.set_xlim(0, widest * 1.42)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(lambda x, _, form=form: form(x).replace(".0 ", " "))
        axes.set_yticks([0, 1], ["Forgetting", name])
        axes.set_ylim(1.6, -0.6)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", labelcolor=LIGHT["ink"])
        name_axes(axes, title, unit)

    handles = [
        Patch(facecolor=LIGHT["unlearned"], label="unlearning"),
        Patch(facecolor=LIGHT["retain"], hatch="////", edgecolor=LIGHT["page"], label="retention rounds"),
        Patch(facecolor=LIGHT["retrained"], label=name.lower()),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)

    return figure
