"""Writes everything that is drawn from results: tables, charts, the page. Trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from common.files import write_bytes, write_text
from simulations.comparison.cell_result import CellResult, load_cells
from simulations.comparison.plan import size_name
from simulations.comparison.results import summary
from simulations.comparison.results.plots import CHARTS
from simulations.comparison.results.summary import Row
from simulations.comparison.results.tables import tables_of, to_csv, to_latex, to_markdown
from simulations.reporting.charts.drawing import style, to_png, to_svg
from simulations.reporting.template import fill

PAGE_FILE = "report.html"


def write_output(out: Path, command: str) -> list[Row]:
    """Write `table.csv`, `table.md`, `table.tex`, charts and `report.html` into `out`; the rows they show.

    Raises:
        ResultError: there are no results, or one is damaged.
        OutputError: the folder cannot be written.
    """
    results = load_cells(out)
    rows = summary.rows(results)
    write_text(out / "table.csv", to_csv(rows))
    write_text(out / "table.md", to_markdown(rows, results, command))
    write_text(out / "table.tex", to_latex(rows))

    for size in summary.sizes(rows):
        for name, draw in CHARTS.items():
            with style():
                write_bytes(out / f"{name}-{size_name(size)}.png", to_png(draw(summary.drawn(summary.at(rows, size)))))

    write_text(out / PAGE_FILE, render(rows, results, command))

    return rows


def render(all_rows: Sequence[Row], results: Sequence[CellResult], command: str) -> str:
    """One page that needs nothing else."""
    sections = []

    for size in summary.sizes(all_rows):
        here = summary.at(all_rows, size)
        charts = {}

        for name, draw in CHARTS.items():
            # The salt names the SVG's ids: two charts on one page must not share them.
            with style(salt=f"{name}-{size_name(size)}"):
                label = f"{name} of all methods, {size_name(size)} % forgotten; the figures are in the tables"
                charts[name] = Markup(to_svg(draw(summary.drawn(here)), label))  # noqa: S704 - drawn by us, texts escaped by matplotlib

        tables = [table for table in tables_of(all_rows, size) if table.head]
        sections.append((size_name(size), summary.verdict(here), charts, tables))

    return fill(
        "compare.html.j2",
        sections=sections,
        command=command,
        seeds=len({r.cell.seed for r in results}),
        cells=len(results),
        versions=results[0].versions if results else {},
    )
