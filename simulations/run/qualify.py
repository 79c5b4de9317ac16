"""A qualification in a simulation: the code of a deployment, with sites and coordinator in one process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from flwr.serverapp import Grid

from common.learning.evaluation.qualification.validity import Circumstances
from common.learning.model.checkpoint import state_digest
from common.learning.records import Subset
from server.campaign.qualification.folder_journal import FolderJournal
from server.campaign.qualification.register import Register, configuration_digest, plan_register, rehearsing_sites
from server.campaign.qualification.result import Result
from server.campaign.qualification.runner import QualificationRun
from server.rounds.aggregation import State
from server.rounds.exchanges.connecting import connect
from server.rounds.exchanges.downlink import Downlink
from server.rounds.federation import Federation
from simulations.run.engine import run_on
from simulations.run.experiment import Experiment, OnProgress
from simulations.run.settings import SimulationConfig


@dataclass(frozen=True, slots=True)
class Qualifying:
    """The qualification of one lineage.

    Attributes:
        classes: number of labels.
        folder: holds the journal; an interrupted qualification continues from it, and one that ended is read back.
    """

    config: SimulationConfig
    sites: tuple[str, ...]
    classes: int
    lineage: str
    folder: Path
    on_progress: OnProgress

    def rehearse(self, federation: Federation, state: State) -> Result:
        """Register, rehearse and judge, or what is left of it.

        Raises:
            CohortError: too few never-seen patients; the message says how many are missing.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        journal = FolderJournal(self.folder)
        # A continued run keeps its register: what was seen since must not change the plan.
        register = journal.body("register", Register)
        if register is None:
            register = self._register(federation, state)
            journal.put("register", register)

        def on_wave(count: int, total: int, _left: float) -> None:
            self.on_progress("rehearsals", count, total)

        return QualificationRun(
            federation,
            lambda: state,
            self.config.experiment,
            register,
            journal,
            lambda: datetime.now(UTC),
            on_wave=on_wave,
        ).run()

    def circumstances(self, registered: Mapping[str, Mapping[str, int]]) -> Circumstances:
        """Under what the procedure runs, with what the sites have registered now."""
        experiment = self.config.experiment
        return Circumstances(
            configuration=configuration_digest(experiment, experiment.campaign.retention_rounds),
            lineage=self.lineage,
            aggregation=experiment.campaign.aggregation,
            sites=self.sites,
            labels=tuple(range(self.classes)),
            train_patients=sum(counts[str(Subset.TRAIN)] for counts in registered.values()),
            at=datetime.fromtimestamp(int(time.time()), UTC),
        )

    def _register(self, federation: Federation, state: State) -> Register:
        plan = self.config.qualification
        sites = rehearsing_sites(plan, federation.registered)
        now = self.circumstances(federation.registered)
        return plan_register(plan, now, self.config.experiment, sites=sites, parent=state_digest(state))


@dataclass
class QualifyRun(Experiment):
    """Train a model and its fold models, register, rehearse, judge. An interrupted run continues from `out`."""

    results: list[Result] = field(default_factory=list)

    def qualify(self) -> Result:
        """All of it.

        Raises:
            CohortError: too few never-seen patients; the message says how many are missing.
            FedForgetError: a site did not answer, or a result cannot be written.
        """
        run_on(
            self.config.engine,
            self._rehearse,
            sites_folder=self.preparation.folder / "sites",
            sites=len(self.preparation.sites),
        )
        return self.results[0]

    def _rehearse(self, grid: Grid) -> None:
        federation, state = self.model_in_use(grid)
        self.results.append(self.qualifying.rehearse(federation, state))

    @property
    def qualifying(self) -> Qualifying:
        """The qualification of the original model."""
        return Qualifying(
            self.config,
            tuple(self.preparation.sites),
            len(self.preparation.card.classes),
            "original",
            self._folder("qualification"),
            self.on_progress,
        )

    def model_in_use(self, grid: Grid) -> tuple[Federation, State]:
        """The federation, and its model with fold models beside it."""
        experiment = self.config.experiment
        federation = connect(grid, len(self.preparation.sites))
        federation.downlink = Downlink(experiment.wire.precision, self.preparation.card.frozen_names())
        federation.status()
        # Fails before the training if there are too few patients to rehearse with.
        rehearsing_sites(self.config.qualification, federation.registered)
        initial = self.preparation.card.build(experiment.seed).state_dict()
        state, outcome = self._trained(federation, "original", initial, experiment.train)
        self._folds(federation, outcome)

        return federation, state
