"""From settings to a finished run folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from client.cohort.site import Site
from common.errors import CohortError, OutputError
from common.files import write_text
from common.learning.device import pick_device
from server.app import SimulatedServer
from server.rounds.unlearning.methods import campaign_method
from simulations.reporting.report import write_report
from simulations.result import Result
from simulations.run.experiment import Experiment, OnProgress
from simulations.run.prepare import Prepared, prepare, require_writable
from simulations.run.qualified import QualifiedExperiment
from simulations.run.settings import SimulationConfig

CONFIG_FILE = "config.json"
RESULT_FILE = "result.json"
FORGET_FILE = "forget.json"


def run_main_job(config: SimulationConfig, out: Path, *, resume: bool, on_progress: OnProgress) -> Result:
    """Prepare, run and report; without `resume`, a folder with another run is refused.

    Raises:
        InputError: settings, data or folder.
    """
    # Settings that cannot run must fail before `claim` deletes an earlier run.
    campaign_method(config.experiment.unlearn.method)
    pick_device(config.experiment.device)
    require_writable(out)
    claim(config, out, resume=resume)
    preparation = prepare(config, out, lambda count, total: on_progress("images", count, total))
    kind = QualifiedExperiment if config.qualify else Experiment
    result = kind(config, preparation, on_progress).run()
    write_text(out / RESULT_FILE, result.model_dump_json(indent=2) + "\n")
    write_report(result, out)

    return result


def prepare_for_flwr(config: SimulationConfig, out: Path, on_image: Callable[[int, int], None]) -> Prepared:
    """Write `sites/`, `server.json` and the list of patients who will revoke.

    Raises:
        InputError: settings, data or folder.
    """
    preparation = prepare(config, out, on_image)
    experiment = config.experiment
    # As in `Experiment`: one site's weights can replace the model only if no other site unlearns.
    if len(preparation.forget) > 1 and experiment.campaign.aggregation == "replace":
        campaign = experiment.campaign.model_copy(update={"aggregation": "relay"})
        experiment = experiment.model_copy(update={"campaign": campaign})

    server = SimulatedServer(experiment=experiment, card=preparation.card, sites=len(preparation.sites))
    write_text(out / "server.json", server.model_dump_json(indent=2) + "\n")
    write_text(out / FORGET_FILE, json.dumps(preparation.forget))

    return preparation


def revoke_prepared(out: Path) -> dict[str, int]:
    """Record the revocations of a prepared folder; returns their number at each site.

    Raises:
        CohortError: the folder was not prepared.
    """
    file = out / FORGET_FILE
    if not file.exists():
        raise CohortError("not a prepared folder", where=str(out), remedy="run fedforget-sim prepare first")
    forget: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))
    for name, patients in forget.items():
        Site(out / "sites" / name).revoke(patients)
    return {name: len(patients) for name, patients in forget.items()}


def claim(config: SimulationConfig, out: Path, *, resume: bool) -> None:
    """Make `out` the folder of this config; files of an earlier run are deleted, unless `resume`.

    Raises:
        OutputError: with `resume`, it holds a run with other settings.
    """
    file = out / CONFIG_FILE
    text = config.model_dump_json(indent=2) + "\n"

    if file.exists():
        # Stages of other settings must not be continued: the result would belong to neither.
        if resume and file.read_text(encoding="utf-8") != text:
            raise OutputError("holds a run with other settings", where=str(out), remedy="choose another --out")
        if not resume:
            # Ours by its config file: stages of an older run must not be taken for this one's.
            for name in ("state", "sites", "model", "hospitals"):
                shutil.rmtree(out / name, ignore_errors=True)

    write_text(file, text)
