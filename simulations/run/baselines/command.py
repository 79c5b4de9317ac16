"""Runs the work of `fedforget-sim baselines`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter

from common.files import write_text
from simulations.baseline_result import BaselineResult
from simulations.run.baselines.output import Row, rows
from simulations.run.baselines.run import Encoders, run_baselines
from simulations.run.prepare import prepare, require_writable
from simulations.run.settings import SimulationConfig

_RUNS = TypeAdapter(list[list[BaselineResult]])
RESULT_FILE = "baselines.json"


def run_command(
    config: SimulationConfig,
    seeds: int,
    encoders: Encoders,
    out: Path,
    on_progress: Callable[[str, int, int], None],
) -> tuple[list[Row], list[list[BaselineResult]]]:
    """Prepare each seed's hospitals, train the baselines, and keep the figures in `baselines.json`.

    Raises:
        InputError: settings, data or folder.
    """
    require_writable(out)
    runs = []

    for seed in range(seeds):
        on_progress("seeds", seed, seeds)
        own_config = config.model_copy(update={"experiment": config.experiment.model_copy(update={"seed": seed})})
        preparation = prepare(
            own_config, out / f"seed-{seed}", lambda count, total: on_progress("images", count, total)
        )
        runs.append(
            run_baselines(
                preparation, seed, encoders, on_progress=lambda count, total: on_progress("baselines", count, total)
            )
        )

    on_progress("seeds", seeds, seeds)
    write_text(out / RESULT_FILE, _RUNS.dump_json(runs, indent=2).decode() + "\n")

    return rows(runs), runs
