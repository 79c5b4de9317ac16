"""Writes `scale.json`, `scale.csv`, `scale.md` and `scale.png` from the results of the sizes."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict

from common.files import write_bytes, write_text
from simulations.reporting.charts.drawing import LIGHT, Line, name_axes, style, to_png
from simulations.scale.growth import Growth, growth
from simulations.scale.result import FORGETTING, STAGES, Size

_COLOURS = ("original", "unlearned", "naive", "retrained", "forget", "quiet")
_MARKERS = ("o", "^", "s", "D", "v", "P")


class Report(BaseModel):
    """`scale.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    command: str
    sizes: tuple[Size, ...]
    growth: tuple[Growth, ...]


def write_output(sizes: Sequence[Size], out: Path, command: str) -> Report:
    """Write all four files into `out`.

    Raises:
        OutputError: the folder cannot be written.
    """
    report = Report(command=command, sizes=tuple(sizes), growth=growth(sizes))
    write_text(out / "scale.json", report.model_dump_json(indent=2) + "\n")
    write_text(out / "scale.csv", to_csv(report))
    write_text(out / "scale.md", to_markdown(report))
    with style(salt="scale"):
        write_bytes(out / "scale.png", to_png(draw(report)))
    return report


def to_csv(report: Report) -> str:
    """A line for each size and stage."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("hospitals", "stage", "server_s", "hospitals_s", "slowest_s", "wall_s", "up_bytes", "down_bytes", "messages")
    )

    for size in report.sizes:
        for name in STAGES:
            s = size.stages[name]
            seconds = (f"{value:.4f}" for value in (s.server, s.hospitals, s.slowest, s.wall))
            writer.writerow((size.hospitals, name, *seconds, s.up, s.down, s.messages))

    return text.getvalue()


def to_markdown(report: Report) -> str:
    """What was run, a table of the figures, how they grow, and where they bend."""
    sizes = report.sizes
    first = report.sizes[0]
    versions = ", ".join(f"{name} {version}" for name, version in first.versions.items())
    lines = [
        f"Command: `{report.command}`. {first.machine}. {versions}.",
        "",
        f"Model of {first.parameters:,} parameters; {first.patients // first.hospitals} training patients a hospital, "
        f"{first.forgotten} revoke at the first.",
        "",
        "| | unit | " + " | ".join(str(size.hospitals) for size in sizes) + " | n^b | last step | each more | |",
        "|---|---|" + "---|" * (len(sizes) + 4),
    ]

    for one in report.growth:
        values = " | ".join(_number(value) for value in one.values)
        fit = " | ".join(_number(value) for value in (one.exponent, one.last, one.each))
        lines.append(f"| {one.name} | {one.unit} | {values} | {fit} | {one.verdict} |")

    lines += ["", said(report)]

    return "\n".join(lines) + "\n"


def said(report: Report) -> str:
    """Where it bends, in a sentence."""
    if len(report.sizes) < 2:
        return "Nothing can be said about growth from one size."
    steep = [f"{one.name} (n^{one.last:.2f})" for one in report.growth if one.verdict.startswith("FASTER")]
    if not steep:
        return "Nothing grows faster than the number of hospitals between the two largest sizes."
    return f"Faster than the number of hospitals between the two largest sizes: {'; '.join(steep)}."


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def draw(report: Report) -> Figure:
    """Seconds of the server by stage, seconds until it is done, memory and bytes, over the number of hospitals."""
    figure = Figure(figsize=(9.2, 8.2), layout="constrained")
    stages, until, memory, traffic = figure.subplots(2, 2).flat
    sizes = report.sizes
    counts = [size.hospitals for size in sizes]
    for number, (name, title) in enumerate(STAGES.items()):
        _line(stages, counts, [size.stages[name].server for size in sizes], title, number)
    _line(until, counts, [size.stages["round"].at_once for size in sizes], "a round of training", 0)
    _line(until, counts, [size.stages["round"].slowest for size in sizes], "of it: the slowest hospital", 1)
    _line(until, counts, [size.forget for size in sizes], "to forget", 2)
    waits = [sum(size.stages[name].slowest for name in FORGETTING) for size in sizes]
    _line(until, counts, waits, "of it: the slowest hospitals", 3)
    peaks = [(size.hospitals, size.peak) for size in sizes if size.peak is not None]
    _line(memory, [n for n, _ in peaks], [peak for _, peak in peaks], "server’s peak above its start", 0)
    # Four bytes a parameter for each hospital: what a server would hold that keeps all replies.
    model = sizes[0].parameters * 4 / 2**20
    whole = [model * count for count in counts]
    memory.plot(counts, whole, color=LIGHT["quiet"], linestyle=(0, (3, 2)), label="if all replies were held")
    _line(traffic, counts, [size.stages["round"].up / 1e6 for size in sizes], "up", 0)
    _line(traffic, counts, [size.stages["round"].down / 1e6 for size in sizes], "down", 1, (0, (4, 3)))

    for axes, title, unit in (
        (stages, "Work of the server", "seconds of a core"),
        (until, "Until it is done, all hospitals at once", "seconds, no network"),
        (memory, "Memory of the server", "MiB"),
        (traffic, "A round of training on the wire", "MB at the server"),
    ):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(counts, [str(count) for count in counts])
        name_axes(axes, title, "hospitals", unit)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)

    return figure


def _line(
    axes: Axes, counts: Sequence[int], values: Sequence[float], label: str, number: int, line: Line = "-"
) -> None:
    colour = LIGHT[_COLOURS[number]]
    marker = _MARKERS[number]
    axes.plot(counts, values, color=colour, marker=marker, markersize=5, linestyle=line, label=label)
