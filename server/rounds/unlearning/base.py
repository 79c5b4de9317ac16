"""What a method of a whole federation works with, and the rounds that several of them need."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel
from torch import Tensor

from common.errors import ConfigError, UnavailableError
from common.learning.config import ExperimentConfig, TrainConfig
from common.learning.evaluation.merge import Eligible
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Subset
from common.protocol.messages import RETAIN
from server.rounds.aggregation import State
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.journal import Journal, step
from server.rounds.training import Round, average_round


class Collected(BaseModel):
    """What the sites said when the campaign began: it weighs and forgets by this to its end."""

    forgetting: tuple[str, ...]
    retain_studies: dict[str, int]
    """Registered studies to train on; what averaging weighs by."""
    patients: int = 0
    """To be forgotten, over all sites."""
    pending: dict[str, int] = {}
    """The same at each of these sites. Empty in the record of an earlier version, as is `registered`."""
    registered: dict[str, dict[str, int]] = {}
    """Patients by set at every site that answered."""
    aggregation: str = ""
    """How the unlearned models become one, as the campaign chose it; empty in the record of an earlier version."""

    def eligible(self, control: Subset) -> dict[str, Eligible] | None:
        """Whose membership figures count, compared with patients of `control`, and how much; None if not recorded."""
        if not self.pending:
            return None
        return {
            name: Eligible(count, self.registered.get(name, {}).get(control, 0)) for name, count in self.pending.items()
        }

    def group(self, name: str) -> tuple[int, int] | None:
        """Patients to forget at a site, and never-seen ones to compare them with; None where it is not on record."""
        if name not in self.pending or str(Subset.AUDIT) not in self.registered.get(name, {}):
            return None
        return self.pending[name], self.registered[name][str(Subset.AUDIT)]


def chosen_aggregation(wanted: str, forgetting: int) -> str:
    """What `campaign.aggregation` comes to with so many forgetting sites."""
    if wanted != "auto":
        return wanted
    return "relay" if forgetting > 1 else "replace"


def single_writer(aggregation: str, forgetting: Sequence[str]) -> str | None:
    """The hospital whose weights become the whole model, None where several are averaged.

    Under `relay` it is the last one: it receives the others' weights and returns what it likes. Under `scaled` the
    change of a single hospital counts in full.
    """
    alone = {"replace", "relay", "scaled"} if len(forgetting) == 1 else {"replace", "relay"}
    if not forgetting or chosen_aggregation(aggregation, len(forgetting)) not in alone:
        return None
    return forgetting[-1]


class NotUnlearnedError(UnavailableError):
    """Sites that are to forget did not unlearn; nothing may be published that goes on as if they had."""

    def __init__(self, problem: str, sites: Collection[str]) -> None:
        self.sites = tuple(sorted(sites))
        super().__init__(problem)


class Stage(BaseModel):
    """A finished round and what it cost."""

    record: Round
    cost: dict[str, float]


@dataclass(frozen=True, slots=True)
class Past:
    """How the model that is to forget was trained: from which weights, and in which rounds."""

    card: ModelCard
    initial: Mapping[str, Tensor]
    rounds: tuple[Round, ...]
    seed: int | None = None
    """Of the training; None where it is not kept."""


@dataclass(frozen=True, slots=True)
class Task:
    """One model that is to forget.

    Attributes:
        federation: the sites.
        parent: the model.
        collected: who forgets and who retains.
        config: of the experiment.
        journal: finished steps, so that a campaign that was cut short goes on.
        folder: for what a method must put on disk meanwhile.
        meter: what the unlearning costs is added here.
        quorum: smallest share of the registered studies that a round goes on with.
        past: None where it is not kept, as at a real coordinator.
    """

    federation: Federation
    parent: Mapping[str, Tensor]
    collected: Collected
    config: ExperimentConfig
    journal: Journal
    folder: Path
    meter: Meter
    quorum: float = 0.0
    past: Past | None = None

    def known_past(self) -> Past:
        """The past.

        Raises:
            ConfigError: it is not kept.
        """
        if self.past is None:
            raise ConfigError(
                f"{self.config.unlearn.method} needs the record of the training, which only a simulation keeps",
                where="unlearn.method",
                remedy="use another method",
            )

        return self.past


class FederatedMethod(Protocol):
    """Returns the model after unlearning, before the retention rounds."""

    def __call__(self, task: Task) -> State:
        """Run it.

        Raises:
            UnavailableError: a site that is needed did not answer; nothing may be published then.
            ConfigError: the settings do not fit the method.
        """


def retention_config(config: ExperimentConfig) -> TrainConfig:
    """Training settings of the retention rounds."""
    return config.train.model_copy(update={"lr": config.train.lr * config.campaign.retention_lr_scale})


def note_missing(journal: Journal, record: Round) -> None:
    """Write down who was late."""
    if record.missing:
        journal.note("late", f"{record.phase} round {record.round} went on without {', '.join(record.missing)}")


def others_round(task: Task) -> tuple[State, float] | None:
    """A retention round from the parent at the sites that forget nobody, and their share of all; None if all forget."""
    share_by_site = task.federation.shares(task.collected.retain_studies)
    others = {name: share for name, share in share_by_site.items() if name not in task.collected.forgetting}
    if not others:
        return None
    federation = task.federation
    config = task.config

    def work() -> tuple[Stage, State]:
        federation.meter = Meter()
        rest, record = average_round(
            federation,
            RETAIN,
            task.parent,
            others,
            retention_config(config),
            epochs=config.campaign.retention_epochs,
            number=-1,
            seed=config.seed,
            quorum=task.quorum,
        )
        return Stage(record=record, cost=asdict(federation.meter)), rest

    stage, rest = step(task.journal, "others", Stage, work)
    task.meter.add(Meter.of(stage.cost))

    return rest, sum(others.values())
