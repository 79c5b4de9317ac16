"""What a process of a comparison does: train an original, tune a method, or run the cells of one seed and size."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from client.cohort.site import Site
from common.files import write_text
from common.learning.config import ExperimentConfig
from common.learning.evaluation.decision import decide
from common.learning.evaluation.distance import logit_distance
from common.learning.evaluation.figures import FederationFigures
from common.learning.evaluation.scores import Scores
from common.learning.model.checkpoint import state_digest
from common.learning.records import Subset
from server.campaign.campaign import audit, decision_on, run_campaign
from server.rounds.aggregation import State
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.journal import MemoryJournal
from server.rounds.unlearning.base import Past
from simulations.comparison.cell_result import CellResult, cell_path, finished, write_cell
from simulations.comparison.job_context import JobContext, OutOfTimeError, digest
from simulations.comparison.plan import ORIGINAL, RETRAINED, Cell, cells, size_name
from simulations.comparison.results.roc import attack_roc
from simulations.comparison.settings import ComparisonConfig
from simulations.comparison.tuning import Tuned
from simulations.comparison.tuning_job import tune
from simulations.comparison.world import World, forgetting_copy, in_federation, open_world, site_paths
from simulations.result import Cost, DecisionResult
from simulations.run.prepare import listed_patients
from simulations.run.run_result import versions
from simulations.run.to_result import model_result

__all__ = ["Job", "Jobs", "OutOfTimeError", "run_job"]


@dataclass(frozen=True, slots=True)
class Job:
    """A job by name, so that another process can run it; `weight` is its projected duration in seconds."""

    kind: Literal["original", "tune", "cells"]
    seed: int = 0
    method: str = ""
    size: float = 0.0
    weight: float = 0.0


def run_job(config: ComparisonConfig, out: Path, until: float, job: Job) -> None:
    """Run a job in the current process.

    Raises:
        OutOfTimeError: the budget is spent.
        FedForgetError: the job failed.
    """
    jobs = Jobs(config, out, until)

    if job.kind == "original":
        jobs.original(job.seed)
    elif job.kind == "tune":
        jobs.tune(job.method)
    else:
        jobs.cells(job.seed, job.size)


@dataclass(frozen=True, slots=True)
class _Model:
    """A model of one cell, with its audit, its cost and the settings that made it."""

    state: State
    figures: FederationFigures
    cost: Meter
    experiment: ExperimentConfig


@dataclass(frozen=True, slots=True)
class Jobs(JobContext):
    """The jobs of one comparison; each reads what an earlier phase wrote and can run in a process of its own."""

    def original(self, seed: int) -> None:
        """Make the world of a seed and train on all its patients."""
        marker = self.world_folder(seed) / "trained.json"
        if marker.exists():
            return

        world = self.make_world(seed)

        def main(federation: Federation) -> None:
            self.train_original(world, federation)

        in_federation(world, world.folder / "sites", main)
        write_text(marker, "{}\n")

    def tune(self, method: str) -> Tuned:
        """Choose a method's settings, or read back the earlier choice."""
        return tune(self, method)

    def cells(self, seed: int, size: float) -> tuple[Cell, ...]:
        """Retrain once, then run every cell of a seed and size that has no result yet; returns those that ran.

        Raises:
            OutOfTimeError: the budget is spent.
        """
        # A seed and size is one job because its cells share the retrained model and the site copies.
        todo = [
            cell for cell in cells(self.config, size, seed) if not finished(self.path(cell), self._cell_digest(cell))
        ]
        if not todo:
            return ()

        world = open_world(self.config.run, seed, self.world_folder(seed))
        folder = self.out / "work" / f"seed-{seed}-{size_name(size)}"
        world, forget = self._forgetting(world, size)
        forgetting_copy(world, folder, forget)
        in_federation(world, folder / "sites", lambda fed: self._run_cells(world, fed, folder, forget, todo))

        return tuple(todo)

    def measure(self, seed: int) -> tuple[float, float]:
        """Measure the seconds of a training round and of a cell, with weights that are hardly trained."""
        world, forget = self._forgetting(self.make_world(seed), max(self.config.sizes))
        folder = self.out / "work" / "projection"
        forgetting_copy(world, folder, forget)
        seconds: list[float] = []

        def main(federation: Federation) -> None:
            # The minimum of two, because the first round also fills the caches that later rounds use.
            original, _ = world.train(federation, "projection", folder / "train", lambda _: None, rounds=2)
            seconds.append(min(record.seconds for record in original.rounds if record.train_loss is not None))

            begin = time.monotonic()
            # The default method stands for all: most methods read the forget set and as much of the retain set.
            experiment = self.experiment(world, "forget_mi_calibrated", self.config.aggregations[0], {})
            run_campaign(
                federation,
                original.state,
                experiment,
                journal=MemoryJournal(),
                folder=folder / "campaign",
                on_round=lambda _: None,
            )
            seconds.append(time.monotonic() - begin)

        in_federation(world, folder / "sites", main)

        return seconds[0], seconds[1]

    def path(self, cell: Cell) -> Path:
        """Path of a cell's result."""
        return cell_path(self.out, cell, size_name(cell.size))

    def _run_cells(
        self,
        world: World,
        federation: Federation,
        folder: Path,
        forget: Mapping[str, tuple[str, ...]],
        todo: Sequence[Cell],
    ) -> None:
        original, original_cost = self.train_original(world, federation)
        # Trained with the original: this reads back what they cost.
        folds = world.train_folds(federation, original) if world.experiment.folds.trainings else None
        gold, gold_cost = world.train(federation, RETRAINED, folder / RETRAINED, self.in_time)

        decision = world.experiment.decision
        seed = world.experiment.seed
        # The original is audited in this copy: who is forgotten differs with the size.
        before = audit(federation, original.state, decision, seed)
        gold_scores = _scores(world, folder, gold.state)
        past = Past(world.card, world.initial(), original.rounds, world.training_seed(ORIGINAL))

        for cell in todo:
            self.in_time()
            begin = time.monotonic()

            if cell.method == ORIGINAL:
                model = _Model(original.state, before, original_cost, world.experiment)
            elif cell.method == RETRAINED:
                figures = audit(federation, gold.state, decision, seed)
                model = _Model(gold.state, figures, gold_cost, world.experiment)
            else:
                model = self._unlearn(world, federation, folder, cell, original.state, before, past)

            verdict = (
                decide(before, model.figures, decision)
                if cell.method in {ORIGINAL, RETRAINED}
                else decision_on(before, model.figures, model.state, model.experiment)
            )
            distance = _distance(_scores(world, folder, model.state), gold_scores)
            paths = site_paths(world, folder)
            result = CellResult(
                cell=cell,
                digest=self._cell_digest(cell),
                settings=model.experiment.model_dump(mode="json", include={"unlearn", "campaign"}),
                forget_sites=world.forget_sites,
                model=model_result(model.figures, state_digest(model.state), distance),
                test_auc_by_class=_by_class(model.figures, world.card.classes),
                roc=attack_roc(world.card, paths, forget, model.state, world.experiment.device),
                cost=Cost(**asdict(model.cost)),
                # Only the calibrated method takes its targets from fold models.
                folds_cost=Cost(**asdict(folds)) if cell.method == "forget_mi_calibrated" and folds else None,
                decision=DecisionResult.of(verdict),
                versions=versions(),
                seconds=time.monotonic() - begin,
            )
            write_cell(self.path(cell), result)

    def _unlearn(
        self,
        world: World,
        federation: Federation,
        folder: Path,
        cell: Cell,
        state: State,
        before: FederationFigures,
        past: Past,
    ) -> _Model:
        """Unlearn with a cell's method, as many times in a row as its variant says."""
        experiment = self.experiment(
            world, cell.method, cell.aggregation, self.tune(cell.method).chosen, self._variant_settings(cell)
        )
        figures = before
        cost = Meter()

        for turn in range(self._turns(cell)):
            campaign = run_campaign(
                federation,
                state,
                experiment,
                journal=MemoryJournal(before=before),
                folder=folder / cell.name / f"turn-{turn}",
                on_round=lambda _: None,
                past=past,
            )
            state = campaign.state
            figures = campaign.figures
            cost.add(campaign.unlearn_cost)
            cost.add(campaign.retain_cost)

        return _Model(state, figures, cost, experiment)

    def _turns(self, cell: Cell) -> int:
        return self.config.variants[cell.variant].times if cell.variant else 1

    def _variant_settings(self, cell: Cell) -> dict[str, object]:
        return self.config.variants[cell.variant].settings if cell.variant else {}

    def _cell_digest(self, cell: Cell) -> str:
        # The original and the retrained model do not depend on tuning.
        tuning = "" if not cell.aggregation else digest(self.config.tuning.model_dump(mode="json"))
        variant = [self._variant_settings(cell), self._turns(cell)]

        return digest(self.shared_settings(), cell.model_dump(mode="json"), tuning, variant)

    def _forgetting(self, world: World, size: float) -> tuple[World, dict[str, tuple[str, ...]]]:
        """The world, and the patients who revoke at each site: drawn at random, or read from a list."""
        if not self.config.forget_lists:
            return world, world.forget_sets(self.config.sizes)[size]

        file = self.config.forget_lists[self.config.sizes.index(size)]
        forget = listed_patients(Path(file), world.parts()[0])

        return world.forgetting_at(tuple(forget)), forget


def _scores(world: World, folder: Path, state: State) -> list[Scores | None]:
    """Scores of the training patients who have not revoked, one entry per site; they stay in this process."""
    return [Site(path).scores(state, Subset.TRAIN) for path in site_paths(world, folder).values()]


def _distance(scores: list[Scores | None], gold: list[Scores | None]) -> float:
    pairs = [(own, other) for own, other in zip(scores, gold, strict=True) if own is not None and other is not None]
    # Sites count by their studies, as if all rows lay in one place.
    return float(np.average([logit_distance(*pair) for pair in pairs], weights=[len(other) for _, other in pairs]))


def _by_class(figures: FederationFigures, classes: tuple[str, ...]) -> dict[str, float | None]:
    return {name: part.auc for name, part in zip(classes, figures.groups["test"]["fused"].auc, strict=True)}
