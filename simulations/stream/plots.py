"""Charts of a stream: utility, memory and cost over time, and whether those who were forgotten come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulations.reporting.drawing import LIGHT, Line, name_axes
from simulations.stream import summary
from simulations.stream.record import SeedRecord, StreamRecord
from simulations.stream.summary import BEFORE, FIGURES
from simulations.stream.summary import Figure as Column
from simulations.stream.tables import BRANCHES

_MONTH = 365.25 / 12
_LINES: tuple[Line, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
_DASHED: Line = (0, (3, 2))
_DOTTED: Line = (0, (1, 2))
_SHOWN: tuple[Column, ...] = (FIGURES[0], FIGURES[2], FIGURES[3], FIGURES[4], FIGURES[5])
_BRANCH_COLOURS = {"fused": "unlearned", "image": "forget", "text": "naive"}


def draw_time(record: StreamRecord) -> Figure:
    """Test AUC, cross-entropy, MIA of each branch, and cumulative cost, over months; a line is a seed."""
    figure = Figure(figsize=(10.4, 6.4), layout="constrained")
    panels: Sequence[Axes] = list(figure.subplots(2, 3, sharex=True).flat)
    for axes, column in zip(panels, _SHOWN, strict=False):
        for at, seed in enumerate(record.seeds):
            _series(axes, seed, column, at)
        if column.title.startswith("MIA"):
            axes.axhline(0.5, color=LIGHT["quiet"], linewidth=0.8, linestyle=_DASHED)
        name_axes(axes, column.title, "months")
    for at, seed in enumerate(record.seeds):
        _cost(panels[5], seed, at)
    name_axes(panels[5], "Cumulative cost", "months", "million forward units")
    named: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=4)
    return figure


def _series(axes: Axes, seed: SeedRecord, column: Column, at: int) -> None:
    days = [0.0, *(c.day for c in seed.campaigns)]
    models = [seed.original, *(c.audited for c in seed.campaigns)]
    # Before the first campaign nobody was forgotten: the original's MIA is of those who are going to be.
    first = 1 if column.title.startswith("MIA") else 0
    points = [(day / _MONTH, v) for day, m in zip(days, models, strict=True) if (v := column.read(m)) is not None]
    xs, ys = zip(*points[first:], strict=True) if points[first:] else ((), ())
    axes.plot(xs, ys, color=LIGHT["unlearned"], linewidth=1.2, linestyle=_LINES[at % 4], label="after each campaign")
    if points:
        axes.plot(0, points[0][1], "o", color=LIGHT["original"], markersize=5, label="original")
    for one in seed.retrained:
        value = column.read(one.audited)
        if value is not None:
            day = seed.campaigns[one.after - 1].day
            axes.plot(day / _MONTH, value, "D", color=LIGHT["retrained"], markersize=5, label="retrained without them")
    _left(axes, seed)


def _left(axes: Axes, seed: SeedRecord) -> None:
    for campaign in seed.campaigns:
        if campaign.how == "retrained":
            axes.axvline(
                campaign.day / _MONTH, color=LIGHT["quiet"], linewidth=0.9, linestyle=_DOTTED,
                label="a hospital left: trained anew",
            )  # fmt: skip


def _cost(axes: Axes, seed: SeedRecord, at: int) -> None:
    days = [0.0, *(c.day / _MONTH for c in seed.campaigns)]
    ours, instead = ([0.0, *(unit / 1e6 for unit in units)] for units in summary.spent(seed))
    line = _LINES[at % 4]
    axes.step(days, ours, where="post", color=LIGHT["unlearned"], linewidth=1.2, linestyle=line)
    axes.step(
        days, instead, where="post", color=LIGHT["retrained"], linewidth=1.2, linestyle=line,
        label="retraining at each campaign",
    )  # fmt: skip
    _left(axes, seed)


def draw_memory(record: StreamRecord) -> Figure:
    """MIA of the groups that one campaign unlearned, by campaigns since then; before their own campaign at -1."""
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    axes = figure.subplots()
    found = summary.later(record)
    lags = sorted({one.lag for one in found})
    for at, branch in enumerate(BRANCHES):
        colour = LIGHT[_BRANCH_COLOURS[branch]]
        means = [
            summary.by_group([one for one in found if one.lag == lag], lambda one, b=branch: one.now.rank[b])  # type: ignore[misc]  # a default pins the branch
            for lag in lags
        ]
        known = [(lag, mean.value) for lag, mean in zip(lags, means, strict=True) if mean]
        axes.plot(
            [lag for lag, _ in known], [value for _, value in known], color=colour, linewidth=1.4,
            linestyle=_LINES[at], marker="o", markersize=3, label=branch,
        )  # fmt: skip
        gold = summary.by_group(
            [one for one in found if one.lag == 0],
            lambda one, b=branch: one.retrained.rank[b] if one.retrained else None,  # type: ignore[misc]  # as above
        )
        if gold is not None:
            axes.axhline(gold.value, color=colour, linewidth=0.9, linestyle=_DASHED, label=f"{branch}, retrained")
    axes.axhline(0.5, color=LIGHT["rule"], linewidth=0.8)
    ticks = [lag for lag in lags if lag == BEFORE or lag % 2 == 0]
    axes.set_xticks(ticks, ["before" if lag == BEFORE else str(lag) for lag in ticks])
    groups = len({(one.seed, one.campaign) for one in found})
    name_axes(axes, f"Do they come back? {groups} groups", "campaigns since they were forgotten", "MIA loss AUC")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


CHARTS: dict[str, Callable[[StreamRecord], Figure]] = {"time": draw_time, "memory": draw_memory}
