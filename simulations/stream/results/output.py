"""Writes tables, charts and the report from `stream.json`."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from common.errors import ResultError
from common.files import write_bytes, write_text
from simulations.reporting.charts.drawing import style, to_png, to_svg
from simulations.reporting.template import fill
from simulations.stream.record import StreamRecord, read_record
from simulations.stream.results.csv_table import to_csv
from simulations.stream.results.markdown import to_markdown
from simulations.stream.results.plots import CHARTS
from simulations.stream.results.summary import verdict
from simulations.stream.results.tables import histories, tables_of

PAGE_FILE = "report.html"
CSV_FILE = "stream.csv"
MARKDOWN_FILE = "stream.md"


def write_output(out: Path) -> StreamRecord:
    """Write `stream.csv`, `stream.md`, charts and `report.html` into `out`; the record that they show.

    Raises:
        ResultError: there is no record, it is damaged, or no campaign is in it.
        OutputError: the folder cannot be written.
    """
    record = read_record(out)
    if not any(seed.campaigns for seed in record.seeds):
        raise ResultError("no campaign was run yet", where=str(out), remedy="run fedforget-sim stream")
    write_text(out / CSV_FILE, to_csv(record))
    write_text(out / MARKDOWN_FILE, to_markdown(record))
    for name, draw in CHARTS.items():
        with style():
            write_bytes(out / f"{name}.png", to_png(draw(record)))

    write_text(out / PAGE_FILE, render(record))

    return record


def render(record: StreamRecord) -> str:
    """Build the report as one self-contained page."""
    charts = {}

    for name, draw in CHARTS.items():
        with style(salt=name):
            svg = to_svg(draw(record), f"{name} of the stream; the figures are in the tables")
            charts[name] = Markup(svg)  # noqa: S704 - drawn by us, texts escaped by matplotlib

    return fill(
        "stream.html.j2",
        charts=charts,
        verdict=verdict(record),
        tables=tables_of(record),
        histories=histories(record),
        campaigns=sum(len(seed.campaigns) for seed in record.seeds),
        seeds=len(record.seeds),
        command=record.command,
        versions=record.versions,
    )
