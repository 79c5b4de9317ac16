"""From settings to a finished run folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from common.errors import OutputError
from common.model.checkpoint import write_text
from simulations.experiment import Experiment, OnProgress
from simulations.prepare import prepare
from simulations.report import write_report
from simulations.result import Result
from simulations.settings import SimulationConfig

CONFIG_FILE, RESULT_FILE = "config.json", "result.json"


def run_main_job(config: SimulationConfig, out: Path, *, resume: bool, on_progress: OnProgress) -> Result:
    """Prepare, run and report; without `resume` a folder that holds another run is refused.

    Raises:
        InputError: settings, data or folder.
    """
    _claim(config, out, resume=resume)
    prepared = prepare(config, out, lambda done, total: on_progress("images", done, total))
    result = Experiment(config, prepared, on_progress).run()
    write_text(out / RESULT_FILE, result.model_dump_json(indent=2) + "\n")
    write_report(result, out)
    return result


def _claim(config: SimulationConfig, out: Path, *, resume: bool) -> None:
    file, text = out / CONFIG_FILE, config.model_dump_json(indent=2) + "\n"
    if file.exists():
        if resume and file.read_text(encoding="utf-8") != text:
            raise OutputError("holds a run with other settings", where=str(out), remedy="choose another --out")
        if not resume:
            # Ours by its config file: stages of an older run must not be taken for this one's.
            for name in ("state", "sites", "model", "hospitals"):
                shutil.rmtree(out / name, ignore_errors=True)
    write_text(file, text)
