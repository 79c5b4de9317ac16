"""The main job: train, take revocations, forget, retrain for comparison, audit all four models."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from flwr.serverapp import Grid

from client.app import open_site
from client.cohort.site import Site
from client.settings import SiteFolder
from common.files import write_text
from common.learning.config import CampaignConfig, TrainConfig
from common.learning.device import derive_seed
from common.learning.evaluation.figures import FederationFigures
from common.learning.model.checkpoint import load_checkpoint, save_checkpoint
from server.campaign.campaign import Campaign, audit, run_campaign
from server.rounds.aggregation import State
from server.rounds.exchanges.connecting import connect
from server.rounds.exchanges.downlink import Downlink
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.journal import MemoryJournal
from server.rounds.training import Round, Trained, train
from server.rounds.unlearning.base import Past
from simulations.result import DecisionResult, ModelName, RehearsalsResult, Result
from simulations.run.baselines.run import run_baselines
from simulations.run.engine import run_on
from simulations.run.folds import folds_beside
from simulations.run.prepare import Prepared
from simulations.run.run_result import Outcome, figures_of, run_result
from simulations.run.settings import SimulationConfig

OnProgress = Callable[[str, int, int], None]
"""Takes a stage, the number of finished rounds, and the maximum number of rounds."""


@dataclass
class Experiment:
    """One run over a prepared federation. A stage that finished earlier is read back from disk."""

    config: SimulationConfig
    preparation: Prepared
    on_progress: OnProgress

    def run(self) -> Result:
        """All stages, on the engine of the config.

        Raises:
            FedForgetError: a site did not answer, or a result cannot be written.
        """
        begin = time.monotonic()
        self._withdraw_revocations()
        results: list[Result] = []
        run_on(
            self.config.engine,
            lambda grid: results.append(self._main(grid)),
            sites_folder=self.preparation.folder / "sites",
            sites=len(self.preparation.sites),
        )

        return results[0].model_copy(update={"seconds": time.monotonic() - begin})

    def _main(self, grid: Grid) -> Result:
        experiment = self.config.experiment
        federation = connect(grid, len(self.preparation.sites))
        federation.downlink = Downlink(
            experiment.wire.precision, self.preparation.card.frozen_names(), self.preparation.card.encoders
        )
        # Original and retrained start from the same weights, so that these are no part of their difference.
        initial = self.preparation.card.build(experiment.seed).state_dict()
        # Trained while nobody has revoked. The audit must wait: only revocations define the forget set.
        original, original_outcome = self._trained(federation, "original", initial, experiment.train)
        folds = self._folds(federation, original_outcome)
        # The only time at which rehearsals can draw from all training patients.
        self._before_revocations(federation, original)
        self._revoke()
        data = {
            # After the revocations, `train` counts the patients who stay.
            name: {**reply.registered, "retain": reply.registered["train"]}
            for name, reply in federation.status().items()
        }
        outcomes: dict[ModelName, Outcome] = {}
        states: dict[ModelName, State] = {"original": original}

        if self.config.retrain:
            states["retrained"], outcomes["retrained"] = self._trained(
                federation, "retrained", initial, experiment.train
            )

        outcomes["original"] = self._audited(federation, "original", original, original_outcome)
        if "retrained" in states:
            outcomes["retrained"] = self._audited(federation, "retrained", states["retrained"], outcomes["retrained"])
        before = figures_of(outcomes["original"])
        seed = derive_seed(experiment.seed, "original") % 2**31
        # What exact and replaying methods need of the training, as a coordinator would keep it.
        past = Past(self.preparation.card, initial, tuple(outcomes["original"].rounds), seed)
        for name, campaign in self._campaigns().items():
            states[name], outcomes[name] = self._campaign(federation, name, original, past, before, campaign)
        # A model that simple classifiers beat on the same patients is not worth deploying.
        baselines = run_baselines(
            self.preparation,
            experiment.seed,
            on_progress=lambda finished, total: self.on_progress("baselines", finished, total),
        )

        result = run_result(self.config, self.preparation, data, states, outcomes, folds)
        return result.model_copy(update={"baselines": baselines, "rehearsals": self._rehearsals(outcomes["unlearned"])})

    def _campaigns(self) -> dict[ModelName, CampaignConfig]:
        campaign = self.config.experiment.campaign
        # One site's weights can replace the model only if no other site unlearns.
        if campaign.aggregation == "replace" and len(self.preparation.forget) > 1:
            campaign = campaign.model_copy(update={"aggregation": "relay"})
        return {"naive": campaign.model_copy(update={"aggregation": "naive"}), "unlearned": campaign}

    def _trained(
        self, federation: Federation, name: ModelName, initial: State, config: TrainConfig
    ) -> tuple[State, Outcome]:
        federation.meter = Meter()
        result: Trained = train(
            federation,
            initial,
            config,
            self.preparation.card,
            seed=derive_seed(self.config.experiment.seed, name) % 2**31,
            folder=self._folder(name),
            on_round=lambda record: self.on_progress(name, record.round + 1, config.rounds),
        )
        self.on_progress(name, config.rounds, config.rounds)
        return result.state, Outcome(rounds=list(result.rounds), costs={"train": asdict(federation.meter)})

    def _folds(self, federation: Federation, original: Outcome) -> Meter:
        return folds_beside(
            federation,
            self.config.experiment,
            self.preparation.card,
            original.rounds,
            lineage="original",
            folder=self._folder("folds"),
            on_round=lambda finished, total: self.on_progress("folds", finished, total),
        )

    def _audited(self, federation: Federation, name: ModelName, state: State, outcome: Outcome) -> Outcome:
        file = self._folder(name) / "outcome.json"
        # The audit writes the outcome last, so the file says that the whole stage is finished.
        if file.exists():
            return Outcome.model_validate_json(file.read_bytes())
        self.on_progress(f"audit {name}", 0, 1)
        federation.meter = Meter()
        figures = audit(federation, state, self.config.experiment.decision, self.config.experiment.seed)
        outcome = outcome.model_copy(update={"figures": figures})
        write_text(file, outcome.model_dump_json())
        self.on_progress(f"audit {name}", 1, 1)

        return outcome

    def _campaign(
        self,
        federation: Federation,
        name: ModelName,
        parent: State,
        past: Past,
        before: FederationFigures,
        campaign: CampaignConfig,
    ) -> tuple[State, Outcome]:
        folder = self._folder(name)
        file = folder / "outcome.json"
        if file.exists():
            state, _ = load_checkpoint(folder / "best", self.preparation.card)
            return state, Outcome.model_validate_json(file.read_bytes())

        journal = self._journal(before)
        steps = campaign.retention_rounds + 2
        # A list, because the callback changes it.
        count = [0]

        def on_round(_: Round) -> None:
            count[0] += 1
            self.on_progress(name, count[0], steps)

        result = run_campaign(
            federation,
            parent,
            self.config.experiment.model_copy(update={"campaign": campaign}),
            journal=journal,
            folder=folder,
            on_round=on_round,
            past=past,
        )
        # Weights before the outcome: a stage whose outcome exists must have both.
        save_checkpoint(folder / "best", result.state, self.preparation.card)
        outcome = Outcome(
            rounds=list(result.rounds),
            costs={"unlearn": asdict(result.unlearn_cost), "retain": asdict(result.retain_cost)},
            figures=result.figures,
            decision=self._decided(result, before, journal) if name == "unlearned" else None,
        )
        write_text(file, outcome.model_dump_json())

        return result.state, outcome

    def _before_revocations(self, federation: Federation, original: State) -> None:
        """What a run does with the original model while nobody has revoked; here nothing."""

    def _journal(self, before: FederationFigures) -> MemoryJournal:
        return MemoryJournal(before=before)

    def _decided(
        self,
        campaign: Campaign,  # noqa: ARG002 - runs that rehearse use it, and the next two
        before: FederationFigures,  # noqa: ARG002
        journal: MemoryJournal,  # noqa: ARG002
    ) -> DecisionResult | None:
        """The outcome where it can rest on more than the campaign's own audit; None here."""
        return None

    def _rehearsals(self, unlearned: Outcome) -> RehearsalsResult | None:  # noqa: ARG002 - runs that rehearse use it
        return None

    def _folder(self, name: str) -> Path:
        folder = self.preparation.folder / "state" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _revoke(self) -> None:
        for name, patients in self.preparation.forget.items():
            Site(self.preparation.site_folder(name)).revoke(patients)

    def _withdraw_revocations(self) -> None:
        """Delete the revocations of an interrupted attempt: the first stage trains on all patients."""
        for name in self.preparation.sites:
            folder = SiteFolder(self.preparation.site_folder(name))
            for path in (*folder.root.glob(f"{folder.simulated_ledger.name}*"), folder.tombstones):
                path.unlink(missing_ok=True)

        open_site.cache_clear()
