"""Runs the work of `fedforget-sim stream`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulations.run.experiment import OnProgress
from simulations.stream.record import RECORD_FILE, StreamRecord
from simulations.stream.results.output import CSV_FILE, PAGE_FILE, write_output
from simulations.stream.results.summary import FIGURES, ends, verdict
from simulations.stream.runner import run_stream
from simulations.stream.settings import load_stream


def run_streams(
    preset: str,
    assignments: list[str],
    out: Path,
    *,
    tables_only: bool,
    say: Callable[[str], None],
    on_progress: OnProgress,
) -> dict[str, Any]:
    """Run the missing campaigns and write the report; returns the value for `--json`.

    Raises:
        InputError: settings, data or folder.
        FedForgetError: a campaign failed.
    """
    if not tables_only:
        command = f"fedforget-sim stream --preset {preset}" + "".join(f" --set {text}" for text in assignments)
        run_stream(load_stream(preset, assignments), out, say, on_progress, command)

    record = write_output(out)
    for line in verdict(record):
        say(line)
    say(f"report: {out / PAGE_FILE}; figures: {out / RECORD_FILE}, {CSV_FILE}")

    return _said(record)


def _said(record: StreamRecord) -> dict[str, Any]:
    return {
        "finished": all(seed.finished for seed in record.seeds),
        "seeds": [
            {
                "seed": end.seed,
                "campaigns": end.campaigns,
                "forgotten": end.forgotten,
                "stream": {figure.title: figure.read(end.last) for figure in FIGURES},
                "retrained": {figure.title: figure.read(end.control) for figure in FIGURES},
            }
            for end in ends(record)
        ],
    }
