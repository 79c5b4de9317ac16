"""Runs the work of `fedforget-sim scale`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from simulations.scale.output import Report, said, write_output
from simulations.scale.runner import OnProgress, run_sizes
from simulations.scale.settings import load_scale


@dataclass(frozen=True, slots=True)
class Request:
    """Options of the command; `command` is shown in the report for readers who want to repeat it."""

    preset: str
    assignments: list[str]
    command: str


def run_scale(request: Request, out: Path, *, say: Callable[[str], None], on_progress: OnProgress) -> Report:
    """Measure the missing sizes, write the report and print where growth is steep.

    Raises:
        InputError: settings or folder.
        FedForgetError: a process died, or a hospital did not answer.
    """
    sizes = run_sizes(load_scale(request.preset, request.assignments), out, on_progress)
    report = write_output(sizes, out, request.command)
    for one in report.growth:
        exponent = "" if one.last is None else f"n^{one.last:.2f} in the last step, "
        say(f"{one.name}: {exponent}{one.verdict}")

    say(said(report))
    say(f"table: {out / 'scale.md'}; picture: {out / 'scale.png'}; all figures: {out / 'scale.json'}")

    return report
