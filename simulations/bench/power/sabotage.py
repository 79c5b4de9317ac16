"""How often a campaign that a hospital or the coordinator sabotages is accepted, and which check refuses it.

`python -m simulations.bench.power.sabotage --campaigns 40 --out runs/sabotage --write docs/results/sabotage.md`

A sabotaged campaign is a rehearsal whose patients' hospital does something else than it says. It passes the real update
gate and is judged for conformity beside the honest rehearsals of a qualification.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

import numpy as np
import torch
import typer
from flwr.serverapp import Grid
from torch import Tensor

from client.cohort import site as site_module
from client.cohort.rehearsals.rehearsal_files import RehearsalFiles
from client.cohort.rehearsals.rehearsal_report import Kept, distances_of
from client.cohort.rehearsals.site_rehearsals import SiteRehearsals
from client.cohort.site_data import SiteData
from common.files import write_text
from common.learning.data.tensors import StudyTensors
from common.learning.device import derive_seed
from common.learning.evaluation.qualification.conformity import Process, conforms
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Subset
from common.protocol.rehearsals import Rehearsal, Rehearsed
from server.campaign.qualification.folder_journal import FolderJournal
from server.campaign.qualification.register import Register, plan_register, waves
from server.campaign.qualification.result import Result
from server.campaign.qualification.wave import Waves, request_of
from server.rounds.aggregation import State
from server.rounds.checks.update_gate import UpdateGate, least_step
from server.rounds.federation import Federation
from server.settings import GateConfig
from simulations.bench.power.sabotage_page import Rows, document
from simulations.run.engine import run_on
from simulations.run.prepare import prepare
from simulations.run.qualify import QualifyRun
from simulations.run.settings import load_settings

How = Literal["honest", "unchanged", "noise", "half", "floor", "naive", "other"]
SHARE = 0.5
"""Of the step that `naive` takes, as of one of two hospitals."""


class Saboteur(SiteRehearsals):
    """A site that unlearns `how` it likes and claims the usual process."""

    how: ClassVar[How] = "honest"
    usual: ClassVar[Process | None] = None

    def _unlearn(
        self, state: Mapping[str, Tensor], one: Rehearsal, forget: StudyTensors
    ) -> tuple[ImageTextModel, Rehearsed]:
        config = self.request.unlearn
        if self.how == "half":
            self._use(config.model_copy(update={"passes": max(1, config.passes // 2)}))
        elif self.how == "floor":
            self._use(config.model_copy(update={"push": 1.0, "push_bounded": False}))
        elif self.how == "other":
            self._victims = forget
            forget = self._others(one)
        elif self.how in {"unchanged", "noise"}:
            return self._pretend(state, one, forget)

        model, outcome = super()._unlearn(state, one, forget)
        self._use(config)
        if self.how == "naive":
            current = model.state_dict()
            model.load_state_dict(
                {name: t + SHARE * (current[name] - t) if t.is_floating_point() else t for name, t in state.items()}
            )
        return model, outcome

    def keep_before(self, one: Rehearsal, model: ImageTextModel, forget: StudyTensors) -> None:
        """Of the patients who revoked, whoever is forgotten."""
        super().keep_before(one, model, self._victims if self.how == "other" else forget)

    def _use(self, config: object) -> None:
        self.request = self.request.model_copy(update={"unlearn": config})

    def _pretend(
        self, state: Mapping[str, Tensor], one: Rehearsal, forget: StudyTensors
    ) -> tuple[ImageTextModel, Rehearsed]:
        model = self.load(state)
        self.keep_before(one, model, forget)
        usual = self.usual
        if self.how == "noise" and usual is not None:
            generator = torch.Generator().manual_seed(one.seed)
            steps = {n: torch.randn(t.shape, generator=generator) for n, t in state.items() if t.is_floating_point()}
            length = float(sum((step**2).sum() for step in steps.values())) ** 0.5
            model.load_state_dict(
                {n: t + steps[n] * (usual.norm / length) if n in steps else t for n, t in state.items()}
            )
        passes = usual.passes if usual else 1
        gap = usual.gap if usual else 0.0
        return model, Rehearsed(number=one.number, passes=passes, gaps=(gap, gap, gap))

    def _others(self, one: Rehearsal) -> StudyTensors:
        """As many patients as were drawn, and others."""
        patients_drawn = set(self.files.drawn()[one.number])
        pool = sorted(set(self.data.by_name(Subset.TRAIN)) - patients_drawn)
        rng = np.random.default_rng(derive_seed(one.seed, "other"))
        names = [pool[at] for at in rng.choice(len(pool), one.patients, replace=False)]
        training_studies = self.data.by_name(Subset.TRAIN)
        return self.data.rehearsed(frozenset(training_studies[name] for name in names))


def usual_process(processes: tuple[Process, ...], size: int) -> Process:
    """The rehearsal of a size whose step is the middle one."""
    of_size = sorted((p for p in processes if p.patients == size), key=lambda p: p.norm)
    return of_size[len(of_size) // 2]


class Study(QualifyRun):
    """A qualification, and sabotaged campaigns beside it."""

    campaigns: int = 40
    sizes: tuple[int, ...] = ()
    rows: dict[tuple[str, int], Counter[str]]

    def study(
        self, campaigns: int, sizes: tuple[int, ...], on_cell: Callable[[Result, Rows], None]
    ) -> tuple[Result, Rows]:
        """All sabotages at all sizes; `on_cell` is called after each."""
        self.campaigns = campaigns
        self.sizes = sizes
        self.rows = {}
        self._on_cell = on_cell
        run_on(
            "inprocess", self._all, sites_folder=self.preparation.folder / "sites", sites=len(self.preparation.sites)
        )
        return self.results[0], self.rows

    def _all(self, grid: Grid) -> None:
        federation, state = self.model_in_use(grid)
        result = self.qualifying.rehearse(federation, state)
        self.results.append(result)
        least = least_step(GateConfig(), self.config.experiment.unlearn)
        # The real gate: a sabotage that it refuses needs no further check.
        federation.accepts = UpdateGate(GateConfig(), lambda *_: None, lambda _: None, least)
        vars(site_module)["SiteRehearsals"] = Saboteur

        for how in get_args(How):
            for size in self.sizes or self.config.qualification.sizes:
                self._sabotaged(federation, state, result, how, size)
                self._on_cell(result, self.rows)

    def _sabotaged(self, federation: Federation, state: State, result: Result, how: How, size: int) -> None:
        Saboteur.how = how
        Saboteur.usual = usual_process(result.processes, size)
        register = self._campaign_register(result.registered, size)
        folder = self._folder(f"sabotage-{self.campaigns}-{how}-{size}")
        count_file = folder / "counts.json"
        if count_file.exists():
            # The sites' scores are gone: what an interrupted run has finished is not done again.
            self.rows.update({(name, size): Counter(n) for name, n in json.loads(count_file.read_text()).items()})
            return
        journal = FolderJournal(folder)
        runs = Waves(federation, state, self.config.experiment, register, journal)
        total = len(waves(register, 1))
        records = []
        for number, wave in enumerate(waves(register, 1)):
            records.append(runs.run(number, wave))
            self.on_progress(f"{how} {size}", number + 1, total)

        round_of = {number: at for record in records for number, at in record.chosen.items()}
        request = request_of(register, self.config.experiment, runs.version, "close", chosen=round_of)
        distance_by_number: dict[int, float] = {}
        for name in self.preparation.sites:
            data = SiteData(self.preparation.site_folder(name))
            files = RehearsalFiles.at(data.folder, register.digest)
            distance_by_number |= distances_of(Kept(files, data, request))
            shutil.rmtree(files.folder, ignore_errors=True)

        processes = {n: p for record in records for n, p in record.processes.items()}
        refusal_count = sum(len(record.refused) for record in records)
        counts = {str(how): _counted(result, distance_by_number, processes, refusal_count)}
        # Figures cost a dishonest hospital nothing: it may report those of the middle rehearsal.
        if how == "noise":
            middle = float(np.median(result.qualification.distances))
            counts["figures"] = _counted(result, dict.fromkeys(distance_by_number, middle), processes, refusal_count)
        self.rows.update({(name, size): one for name, one in counts.items()})
        write_text(count_file, json.dumps(counts))

    def _campaign_register(self, registered: Register, size: int) -> Register:
        plan = self.config.qualification.model_copy(
            # Another seed: the campaigns must not draw the patients of the rehearsals again.
            update={"rehearsals": self.campaigns, "sizes": (size,), "seed": self.config.qualification.seed + 1}
        )
        sites = tuple(dict.fromkeys(one.site for one in registered.rehearsals))
        return plan_register(
            plan, registered.circumstances, self.config.experiment, sites=sites, parent=registered.parent
        )


def _counted(
    result: Result, distances: Mapping[int, float], processes: Mapping[int, Process], refusals: int
) -> Counter[str]:
    counts = Counter({"gate": refusals})
    for number, process in processes.items():
        conformity = conforms(result.qualification.distances, distances[number], result.processes, process)
        counts["all"] += 1
        if conformity.conforms:
            counts["accepted"] += 1
        for reason in conformity.reasons:
            counts[reason.split(":")[0]] += 1
    counts["all"] += refusals
    return counts


def main(
    preset: Annotated[str, typer.Option(help="Name of a preset, or path of a TOML file.")] = "sabotage",
    campaigns: Annotated[int, typer.Option(help="Sabotaged campaigns for each line.", min=2)] = 40,
    sizes: Annotated[
        str, typer.Option(help="Patients of a campaign, e.g. 1,5.", show_default="all that are rehearsed")
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder of the run. Run the same command again to continue.")] = Path(
        "runs/sabotage"
    ),
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, as in `fedforget-sim qualify`.")
    ] = None,
    write: Annotated[Path | None, typer.Option(help="File to write.")] = None,
) -> None:
    """Run the study."""
    config = load_settings(preset, assignments or [], {})
    preparation = prepare(config, out, lambda *_: None)
    study = Study(config, preparation, lambda stage, count, of: typer.echo(f"{stage}: {count} of {of}", err=True))
    round_of = tuple(int(size) for size in sizes.split(",") if size)

    def on_cell(result: Result, rows: Rows) -> None:
        if write is not None:
            write_text(write, document(result, rows, campaigns, preset, assignments or []))

    result, rows = study.study(campaigns, round_of, on_cell)
    if write is None:
        typer.echo(document(result, rows, campaigns, preset, assignments or []))


if __name__ == "__main__":
    typer.run(main)
