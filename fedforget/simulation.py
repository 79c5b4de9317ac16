"""A whole federation on this machine: training, revocations, unlearning, and the audit of four models."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedforget.auditing import as_table
from fedforget.models import Model, load
from simulations.reporting.report import REPORT_FILE, load_result, write_report
from simulations.result import Result
from simulations.run.experiment import OnProgress
from simulations.run.main_job import run_main_job
from simulations.run.settings import load_settings

_SHOWN_HEIGHT = 900


@dataclass(frozen=True, slots=True)
class Simulation:
    """A finished run. A notebook displays its table; `show()` displays the whole report."""

    folder: Path
    result: Result

    @classmethod
    def open(cls, folder: Path | str) -> Simulation:
        """Read a run that `simulate` or `fedforget-sim run` wrote.

        Raises:
            ResultError: the folder has no readable result.
        """
        return cls(Path(folder), load_result(Path(folder)))

    @property
    def report(self) -> Path:
        """Path of `report.html`, a self-contained page."""
        file = self.folder / REPORT_FILE
        return file if file.exists() else write_report(self.result, self.folder)

    def table(self) -> Any:
        """One row per model: membership AUC with its 90 % interval, and utility. A pandas DataFrame if available."""
        rows = []

        for name, model in self.result.models.items():
            fusion = model.mia.get("fused")
            rows.append(
                {
                    "model": name,
                    "membership_auc": fusion and fusion.auc,
                    "low": fusion and fusion.ci90 and fusion.ci90[0],
                    "high": fusion and fusion.ci90 and fusion.ci90[1],
                    "test_auc": model.test.auc,
                    "accuracy_forget": model.forget.accuracy,
                    "accuracy_never_seen": model.never_seen.accuracy,
                }
            )

        return as_table(rows)

    def model(self, name: str = "unlearned") -> Model:
        """One of the models: `original`, `naive`, `unlearned`, `retrained`.

        Raises:
            CheckpointError: the run has no such model.
        """
        return load(self.folder / "model" / name)

    def show(self) -> Any:
        """The report in a notebook; its path elsewhere."""
        try:
            from IPython.display import IFrame  # noqa: PLC0415 - available only in notebooks
        except ImportError:
            return self.report

        return IFrame(str(self.report), width="100%", height=_SHOWN_HEIGHT)

    def _repr_html_(self) -> str:
        table = self.table()
        return str(table.to_html(index=False)) if hasattr(table, "to_html") else f"<pre>{json.dumps(table)}</pre>"


def simulate(
    preset: str = "demo",
    *,
    out: Path | str | None = None,
    method: str | None = None,
    manifest: Path | str | None = None,
    sites: int | str | None = None,
    forget: float | str | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> Simulation:
    """Train a federation, let patients revoke, forget them, and audit the result against three other models.

    Args:
        preset: a preset's name or a TOML file.
        out: folder of the run; by default a temporary one.
        method: the unlearning method.
        manifest: a CSV of studies; by default synthetic hospitals are generated.
        sites: number of hospitals to deal the patients to, or `natural`.
        forget: number or share (below 1) of patients who revoke, or a file that lists them.
        seed: seed of all random numbers.
        settings: any other settings, such as `{"train.rounds": 10, "hospitals.patients": 40}`.
        resume: continue an interrupted run in `out`.
        on_progress: called with a stage, the rounds done, and the maximum number of rounds.

    Raises:
        FedForgetError: a setting, the data or the folder is invalid.
    """
    options = {"manifest": manifest and str(manifest), "sites": sites, "forget": forget}
    values = {name: value for name, value in options.items() if value is not None}
    assignments = [f"{name}={json.dumps(value)}" for name, value in (settings or {}).items()]
    if seed is not None:
        assignments.append(f"experiment.seed={seed}")
    config = load_settings(preset, assignments, values, method)

    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="fedforget-"))
    result = run_main_job(config, folder, resume=resume, on_progress=on_progress or _silent)

    return Simulation(folder, result)


def _silent(stage: str, count: int, total: int) -> None:
    """Ignore progress."""
