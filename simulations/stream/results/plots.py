"""Charts of a stream: utility, memory and cost over time, and whether those who were forgotten come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulations.reporting.charts.drawing import LIGHT, Line, name_axes
from simulations.result import Branch
from simulations.stream.record import SeedRecord, StreamRecord
from simulations.stream.results import summary
from simulations.stream.results.summary import BEFORE, FIGURES, Later
from simulations.stream.results.summary import Figure as Column
from simulations.stream.results.tables import BRANCHES, LAGS, TERM

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
        whom = ", of all forgotten so far" if column.title.startswith("MIA") else ""
        name_axes(axes, column.title + whom, "months")

    for at, seed in enumerate(record.seeds):
        _cost(panels[5], seed, at)
    name_axes(panels[5], "Cumulative cost", "months", "million forward units")
    artists: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            # One entry a label: every panel and every seed draws the same kinds of lines.
            artists.setdefault(label, handle)

    figure.legend(list(artists.values()), list(artists), loc="outside lower center", ncols=5)

    return figure


def _series(axes: Axes, seed: SeedRecord, column: Column, at: int) -> None:
    days = [0.0, *(c.day for c in seed.campaigns)]
    models = seed.models
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
            campaign = seed.campaigns[one.after - 1]
            month = campaign.day / _MONTH
            ours = column.read(campaign.audited)
            axes.plot(month, value, "D", color=LIGHT["retrained"], markersize=5, label="retrained without them")
            if ours is not None:
                # Which line a diamond belongs to.
                axes.plot([month, month], [value, ours], color=LIGHT["retrained"], linewidth=0.8)

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
    # Steps: cost grows at a campaign, and not between two.
    axes.step(days, ours, where="post", color=LIGHT["unlearned"], linewidth=1.2, linestyle=line)
    axes.step(
        days, instead, where="post", color=LIGHT["retrained"], linewidth=1.2, linestyle=line,
        label="retraining at each campaign",
    )  # fmt: skip
    _left(axes, seed)


def draw_memory(record: StreamRecord) -> Figure:
    """MIA less that of the same patients in the retrained model: by campaigns since forgotten, and over time."""
    figure = Figure(figsize=(10.4, 4.0), layout="constrained")
    since, over = figure.subplots(1, 2, sharey=True)
    cohorts = summary.later(record)
    for at, (branch, marker) in enumerate(zip(BRANCHES, "os^", strict=True)):
        groups = [[one for one in cohorts if least <= one.lag <= most] for _, least, most in LAGS]
        _bars(since, groups, branch, LIGHT[_BRANCH_COLOURS[branch]], marker, 0.18 * (at - 1), branch)

    names = [name.replace(" their campaign", "").replace(" campaigns later", "") for name, *_ in LAGS]
    since.set_xticks(range(len(LAGS)), names)
    name_axes(since, "Do they come back?", "campaigns since they were forgotten", "MIA less that of retrained")
    stretches = summary.terms(record, TERM)

    for name, lag, colour, marker, aside in (
        ("before their campaign, fused", BEFORE, "original", "o", -0.1),
        ("after it, fused", 0, "unlearned", "^", 0.1),
    ):
        groups = [
            [one for one in cohorts if first <= one.campaign <= last and one.lag == lag] for first, last in stretches
        ]
        _bars(over, groups, "fused", LIGHT[colour], marker, aside, name)

    over.set_xticks(range(len(stretches)), [f"{first} to {last}" for first, last in stretches])
    name_axes(over, "Does the memory grow?", "campaigns")

    for axes in (since, over):
        axes.axhline(0, color=LIGHT["retrained"], linewidth=0.9, linestyle=_DASHED)
        handles, labels = axes.get_legend_handles_labels()
        artists = dict(zip(labels, handles, strict=True))
        if artists:
            axes.legend(list(artists.values()), list(artists), loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)

    return figure


def _bars(
    axes: Axes, groups: Sequence[Sequence[Later]], branch: Branch, colour: str, marker: str, aside: float, label: str
) -> None:
    """Mean and 95 % interval of each of `groups`, side by side; nothing for those without a control."""
    for at, here in enumerate(groups):
        mean = summary.by_group(here, lambda one: summary.beyond(one, branch))
        if mean is not None:
            low, high = mean.interval or (mean.value, mean.value)
            axes.errorbar(
                at + aside, mean.value, yerr=[[mean.value - low], [high - mean.value]], color=colour, marker=marker,
                markersize=5, linestyle="none", elinewidth=0.8, label=label,
            )  # fmt: skip


CHARTS: dict[str, Callable[[StreamRecord], Figure]] = {"time": draw_time, "memory": draw_memory}
