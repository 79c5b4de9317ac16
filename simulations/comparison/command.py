"""Runs the work of `fedforget-sim compare`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simulations.comparison.cell_result import load_cells
from simulations.comparison.plan import grid, size_name
from simulations.comparison.results import summary
from simulations.comparison.results.output import PAGE_FILE, write_output
from simulations.comparison.results.summary import Row
from simulations.comparison.runner import (
    OnProgress,
    Order,
    prepare_folder,
    project,
    projected_text,
    run_comparison,
)
from simulations.comparison.settings import load_comparison
from simulations.shadows.order import parse_share


@dataclass(frozen=True, slots=True)
class Request:
    """Options of the command; `command` is shown in the report for readers who want to repeat it."""

    preset: str
    assignments: list[str]
    jobs: int
    share: str
    budget_minutes: float | None
    command: str
    ray: str = ""


def run_compare(
    request: Request,
    out: Path,
    *,
    only: Literal["projection", "tables"] | None,
    say: Callable[[str], None],
    on_progress: OnProgress,
) -> dict[str, Any]:
    """Project the duration, run the comparison and write the report; returns the value for `--json`.

    Raises:
        InputError: settings, data or folder.
        FedForgetError: a job failed.
    """
    begin = time.time()
    if only == "tables":
        return _drawn(out, request.command, True, say)
    config = load_comparison(request.preset, request.assignments)
    # From the start of the command, since measuring takes a part of the budget, too.
    until = float("inf") if request.budget_minutes is None else begin + 60 * request.budget_minutes
    order = Order(request.jobs, parse_share(request.share), until, request.ray)
    prepare_folder(config, out)
    projection = project(config, out)
    # Said before the work starts, so that a run that would take days can be stopped.
    say(projected_text(projection, request.jobs, config.sizes, len(grid(config))))
    if only == "projection":
        return {"projected_hours": projection.total / request.jobs / 3600, "models": len(grid(config))}
    is_complete = run_comparison(config, out, order, on_progress)
    if not is_complete:
        say("the budget is spent; run the same command again to continue")
        if not any((out / "cells").glob("*/*/*/result.json")):
            return {"finished": False, "models": 0}

    return _drawn(out, request.command, is_complete, say)


def _drawn(out: Path, command: str, finished: bool, say: Callable[[str], None]) -> dict[str, Any]:
    rows = write_output(out, command)
    for size in summary.sizes(rows):
        say(f"{size_name(size)} % forgotten: {summary.verdict(summary.at(rows, size))}")
    say(f"report: {out / PAGE_FILE}; tables: {out / 'table.csv'}, table.md, table.tex")
    return {"finished": finished, "models": len(load_cells(out)), "rows": [_row(row) for row in rows]}


def _row(row: Row) -> dict[str, Any]:
    metrics = (*summary.MEASURED, *summary.BRANCHES, *summary.COST)
    figures = {m.key: None if (mean := row.mean(m.read)) is None else mean.value for m in metrics}
    return {
        "method": row.method,
        "variant": row.variant,
        "aggregation": row.aggregation,
        "forgotten": row.size,
        **figures,
    }
