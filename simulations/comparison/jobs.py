"""What a process of a comparison does: train an original, tune a method, or run the cells of one seed and size."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from client.cohort.site import Site
from common.files import write_text
from common.learning.config import ExperimentConfig
from common.learning.data.tables.patient_list import read_patient_list
from common.learning.device import derive_seed
from common.learning.evaluation.decision import decide
from common.learning.evaluation.distance import logit_distance
from common.learning.evaluation.figures import FederationFigures
from common.learning.evaluation.scores import Scores
from common.learning.model.checkpoint import state_digest
from common.learning.records import Subset
from common.settings import parse
from server.campaign.campaign import audit, collect, make_candidate, run_campaign
from server.rounds.aggregation import State
from server.rounds.federation import Federation, Meter
from server.rounds.journal import MemoryJournal
from server.rounds.training import Round, Trained, select, train_references
from server.rounds.unlearning.base import Past
from simulations.comparison.cell_result import CellResult, cell_path, finished, write_cell
from simulations.comparison.plan import ORIGINAL, RETRAINED, Cell, cells, compared, size_name, tuned_on
from simulations.comparison.results.roc import attack_roc
from simulations.comparison.settings import ComparisonConfig
from simulations.comparison.tuning import Setting, Trial, Tuned, judges, settings_to_try, tuning_score, with_setting
from simulations.comparison.world import World, forgetting_copy, in_federation, make_world, open_world, site_paths
from simulations.result import Cost, DecisionResult
from simulations.run.experiment import versions
from simulations.run.prepare import listed_patients
from simulations.run.settings import merged, with_method
from simulations.run.to_result import model_result


class OutOfTimeError(Exception):
    """The budget is spent; what was finished is on disk, and the same command goes on."""


@dataclass(frozen=True, slots=True)
class Job:
    """One of them by name, so that it can be handed to another process; `weight` is its projected seconds."""

    kind: Literal["original", "tune", "cells"]
    seed: int = 0
    method: str = ""
    size: float = 0.0
    weight: float = 0.0


def run_job(config: ComparisonConfig, out: Path, until: float, job: Job) -> None:
    """Run one, in a process of its own.

    Raises:
        OutOfTimeError: the budget is spent.
        FedForgetError: as the job says.
    """
    jobs = Jobs(config, out, until)

    if job.kind == "original":
        jobs.original(job.seed)
    elif job.kind == "tune":
        jobs.tune(job.method)
    else:
        jobs.cells(job.seed, job.size)


@dataclass(slots=True)
class _Draw:
    """What the settings that were tried on one forget set came to, in their order, and the forward units allowed."""

    allowed: float = 0.0
    units: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Jobs:
    """The jobs of one comparison in `out`; each is on its own, and reads what an earlier phase wrote.

    Attributes:
        until: seconds since the epoch after which no round of training and no cell is begun.
    """

    config: ComparisonConfig
    out: Path
    until: float = float("inf")

    def original(self, seed: int) -> None:
        """Make the world of a seed and train on everybody; for the tuning seed, on the patients set aside for it."""
        if self._trained_file(seed).exists():
            return
        world = self._made(seed)
        in_federation(world, world.folder / "sites", partial(self._train_original, world))
        write_text(self._trained_file(seed), "{}\n")

    def tune(self, method: str) -> Tuned:
        """Try a method's settings until its share is spent, or read back what it came to."""
        file = self.out / "tuning" / f"{method}.json"
        digest = _digest(self._shared(), self.config.tuning.model_dump(mode="json"), method)
        if file.exists() and (known := Tuned.model_validate_json(file.read_bytes())).digest == digest:
            return known
        tuning = self.config.tuning
        world = open_world(self.config.run, tuning.seed, self._world_folder(tuning.seed))
        folder = self.out / "work" / f"tuning-{method}"
        settings = settings_to_try(tuning, method)
        draws = list[_Draw]()
        for number in range(tuning.draws):
            draws.append(self._draw(world, folder / f"draw-{number}", method, settings, number))
            settings = settings[: len(draws[0].scores)]

        trials = tuple(
            Trial(
                setting=setting,
                score=float(np.mean([draw.scores[at] for draw in draws])),
                forward_units=sum(draw.units[at] for draw in draws),
            )
            for at, setting in enumerate(settings)
        )
        tuned = Tuned(method=method, allowed=sum(draw.allowed for draw in draws), trials=trials, digest=digest)
        write_text(file, tuned.model_dump_json(indent=2) + "\n")
        shutil.rmtree(folder)

        return tuned

    def cells(self, seed: int, size: float) -> tuple[Cell, ...]:
        """Retrain once, then run every cell of a seed and size that has no result yet; those that were run.

        Raises:
            OutOfTimeError: the budget is spent.
        """
        wanted = [
            cell for cell in cells(self.config, size, seed) if not finished(self.path(cell), self._cell_digest(cell))
        ]
        if not wanted:
            return ()
        world = open_world(self.config.run, seed, self._world_folder(seed))
        folder = self.out / "work" / f"seed-{seed}-{size_name(size)}"
        world, forget = self._forgetting(world, size)
        forgetting_copy(world, folder, forget)
        in_federation(world, folder / "sites", lambda fed: self._cells(world, fed, folder, forget, wanted))

        return tuple(wanted)

    def measure(self, seed: int) -> tuple[float, float]:
        """Seconds of a round of training and of a cell, with weights that were hardly trained."""
        world, forget = self._forgetting(self._made(seed), max(self.config.sizes))
        folder = self.out / "work" / "projection"
        forgetting_copy(world, folder, forget)
        seconds: list[float] = []

        def main(federation: Federation) -> None:
            # The first round also reads what later ones have in memory.
            done, _ = world.train(federation, "projection", folder / "train", lambda _: None, rounds=2)
            seconds.append(min(record.seconds for record in done.rounds if record.train_loss is not None))
            begin = time.monotonic()
            # The default method stands for all: most walk the forget set and as much of the retain set.
            experiment = self._experiment(world, "forget_mi_calibrated", self.config.aggregations[0], {})
            run_campaign(
                federation,
                done.state,
                experiment,
                journal=MemoryJournal(),
                folder=folder / "campaign",
                on_round=lambda _: None,
            )
            seconds.append(time.monotonic() - begin)

        in_federation(world, folder / "sites", main)

        return seconds[0], seconds[1]

    def path(self, cell: Cell) -> Path:
        """Of the result of a cell."""
        return cell_path(self.out, cell, size_name(cell.size))

    def _train_original(self, world: World, federation: Federation) -> None:
        self._original(world, federation)

    def _original(self, world: World, federation: Federation) -> tuple[Trained, Meter]:
        return world.train(federation, ORIGINAL, world.folder / ORIGINAL, self._in_time)

    def _draw(self, world: World, folder: Path, method: str, settings: Sequence[Setting], number: int) -> _Draw:
        """Try settings on one forget set of the tuning federation until its part of the budget is spent; judge them."""
        tuning = self.config.tuning
        seed = world.experiment.seed
        forget = world.forget_sets((tuning.size,), draw=number)[tuning.size]
        found = _Draw()
        states = list[State]()

        def unlearn(federation: Federation) -> None:
            original, cost = self._original(world, federation)
            found.allowed = tuning.budget * cost.forward_units / tuning.draws
            collected = collect(federation)
            past = Past(world.card, world.initial(), original.rounds)

            for at, setting in enumerate(settings):
                if at and sum(found.units) >= found.allowed and not number:
                    return
                self._in_time()
                done = make_candidate(
                    federation,
                    original.state,
                    collected,
                    self._experiment(world, method, self.config.aggregations[0], setting),
                    journal=MemoryJournal(),
                    folder=folder / f"trial-{at}",
                    on_round=lambda _: None,
                    past=past,
                )
                states.append(done.state)
                found.units.append(done.unlearn_cost.forward_units + done.retain_cost.forward_units)

        def judge(federation: Federation) -> None:
            original, _ = self._original(world, federation)
            before = select(federation, original.state, seed)
            found.scores += [tuning_score(select(federation, state, seed), before) for state in states]

        forgetting_copy(world, folder, forget)
        in_federation(world, folder / "sites", unlearn)
        forgetting_copy(world, folder / "judges", forget, judges)
        in_federation(world, folder / "judges" / "sites", judge)

        return found

    def _cells(
        self,
        world: World,
        federation: Federation,
        folder: Path,
        forget: Mapping[str, tuple[str, ...]],
        wanted: Sequence[Cell],
    ) -> None:
        original, original_cost = self._original(world, federation)
        retrained, retrained_cost = world.train(federation, RETRAINED, folder / RETRAINED, self._in_time)
        train_references(
            federation,
            world.initial(),
            world.experiment.train,
            count=self.config.run.experiment.campaign.references,
            rounds=max(1, next(r.round for r in original.rounds if r.kept)),
            seed=derive_seed(world.experiment.seed, "references") % 2**31,
            folder=folder / "references",
            on_round=lambda *_: self._in_time(),
        )
        decision = world.experiment.decision
        seed = world.experiment.seed
        before = audit(federation, original.state, decision, seed)
        gold = _scores(world, folder, retrained.state)
        past = Past(world.card, world.initial(), original.rounds)

        for cell in wanted:
            self._in_time()
            begin = time.monotonic()

            if cell.method == ORIGINAL:
                state = original.state
                figures = before
                cost = original_cost
                experiment = world.experiment
            elif cell.method == RETRAINED:
                state = retrained.state
                cost = retrained_cost
                experiment = world.experiment
                figures = audit(federation, state, decision, seed)
            else:
                experiment = self._experiment(
                    world, cell.method, cell.aggregation, self._chosen(cell.method), self._of_variant(cell)
                )
                state = original.state
                cost = Meter()

                for turn in range(self._turns(cell)):
                    done = run_campaign(
                        federation,
                        state,
                        experiment,
                        journal=MemoryJournal(before=before),
                        folder=folder / cell.name / f"turn-{turn}",
                        on_round=lambda _: None,
                        past=past,
                    )
                    state = done.state
                    figures = done.figures
                    cost.add(done.unlearn_cost)
                    cost.add(done.retain_cost)

            verdict = decide(before, figures, decision)
            distance = _distance(_scores(world, folder, state), gold)
            result = CellResult(
                cell=cell,
                digest=self._cell_digest(cell),
                settings=experiment.model_dump(mode="json", include={"unlearn", "campaign"}),
                forget_sites=world.forget_sites,
                model=model_result(figures, state_digest(state), distance),
                test_auc_by_class=_by_class(figures, world.card.classes),
                roc=attack_roc(world.card, site_paths(world, folder), forget, state, world.experiment.device),
                cost=Cost(**asdict(cost)),
                decision=DecisionResult(outcome=verdict.outcome, reasons=list(verdict.reasons)),
                versions=versions(),
                seconds=time.monotonic() - begin,
            )
            write_cell(self.path(cell), result)

    def _experiment(
        self, world: World, method: str, aggregation: str, setting: Setting, own: Mapping[str, object] | None = None
    ) -> ExperimentConfig:
        """The world's settings, the method's preset, what tuning chose, a variant's `own`; how it gets into the model.

        Raises:
            ConfigError: `own` has what is no setting.
        """
        chosen = with_setting(with_method(self.config.run, method).experiment, setting)
        if own:
            chosen = parse(ExperimentConfig, merged(chosen.model_dump(mode="json"), dict(own)), "variants")
        if aggregation == "replace" and len(world.forget_sites) > 1:
            aggregation = "relay"
        campaign = chosen.campaign.model_copy(update={"aggregation": aggregation})

        return world.experiment.model_copy(update={"unlearn": chosen.unlearn, "campaign": campaign})

    def _chosen(self, method: str) -> Setting:
        return self.tune(method).chosen

    def _turns(self, cell: Cell) -> int:
        return self.config.variants[cell.variant].times if cell.variant else 1

    def _of_variant(self, cell: Cell) -> dict[str, object]:
        return self.config.variants[cell.variant].settings if cell.variant else {}

    def _cell_digest(self, cell: Cell) -> str:
        tuned = "" if not cell.aggregation else _digest(self.config.tuning.model_dump(mode="json"))
        variant = [self._of_variant(cell), self._turns(cell)]
        return _digest(self._shared(), cell.model_dump(mode="json"), tuned, variant)

    def _shared(self) -> object:
        """What all cells depend on."""
        shared = [self.config.run.model_dump(mode="json"), sorted(self.config.sizes), self.config.tuning.parts]
        return [*shared, self.config.forget_lists] if self.config.forget_lists else shared

    def _forgetting(self, world: World, size: float) -> tuple[World, dict[str, tuple[str, ...]]]:
        """The world and who revokes at each of its sites: drawn, or as a file says."""
        if not self.config.forget_lists:
            return world, world.forget_sets(self.config.sizes)[size]
        file = self.config.forget_lists[self.config.sizes.index(size)]
        forget = listed_patients(Path(file), world.parts()[0])

        return world.forgetting_at(tuple(forget)), forget

    def _made(self, seed: int) -> World:
        among = None
        listed = frozenset(chain(*(read_patient_list(Path(file)) for file in self.config.forget_lists)))
        tunes = seed == self.config.tuning.seed
        if self.config.run.manifest:
            among = partial(tuned_on if tunes else compared, parts=self.config.tuning.parts, kept=listed)
        trained = frozenset() if tunes else listed

        return make_world(self.config.run, seed, self._world_folder(seed), among, lambda *_: None, trained)

    def _world_folder(self, seed: int) -> Path:
        return self.out / "worlds" / f"seed-{seed}"

    def _trained_file(self, seed: int) -> Path:
        return self._world_folder(seed) / "trained.json"

    def _in_time(self, _: Round | None = None) -> None:
        if time.time() >= self.until:
            raise OutOfTimeError


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _scores(world: World, folder: Path, state: State) -> list[Scores | None]:
    """Of the training patients who have not revoked, site after site; rows are read here and kept nowhere."""
    return [Site(path).scores(state, Subset.TRAIN) for path in site_paths(world, folder).values()]


def _distance(found: list[Scores | None], gold: list[Scores | None]) -> float:
    pairs = [(f, g) for f, g in zip(found, gold, strict=True) if f is not None and g is not None]
    return float(np.average([logit_distance(f, g) for f, g in pairs], weights=[len(g) for _, g in pairs]))


def _by_class(figures: FederationFigures, classes: tuple[str, ...]) -> dict[str, float | None]:
    return {name: found.auc for name, found in zip(classes, figures.groups["test"]["fused"].auc, strict=True)}
