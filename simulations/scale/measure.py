"""Measures one federation from its server's process, which contains no hospital."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from common.errors import FedForgetError
from common.evidence.outcomes.grounds_text import rests_on
from common.learning.evaluation.figures import FederationFigures
from common.learning.evaluation.merge import AuditMerge
from common.learning.model.checkpoint import ModelCard
from common.protocol.messages import TRAIN, EvaluateRequest
from server.campaign.campaign import run_campaign
from server.rounds.aggregation import State, shares
from server.rounds.exchanges.connecting import connect
from server.rounds.exchanges.downlink import Downlink
from server.rounds.federation import Federation
from server.rounds.journal import MemoryJournal
from server.rounds.selection import evaluate
from server.rounds.states import CampaignState
from server.rounds.training import average_round
from simulations.bench.meters import resident
from simulations.scale.hospitals import PipedGrid, Traffic, hospitals
from simulations.scale.result import Size, Stage, StageName, write_size
from simulations.scale.settings import ScaleConfig


class StopWatch:
    """Records the traffic of each stage."""

    def __init__(self, grid: PipedGrid) -> None:
        self._grid = grid
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def lap(self) -> Stage:
        """End a stage; returns its figures since the previous call."""
        cpu = time.process_time()
        wall = time.monotonic()
        traffic = self._grid.traffic
        stage = Stage(
            server=cpu - self._cpu,
            hospitals=traffic.hospitals,
            slowest=sum(traffic.slowest.values()),
            wall=wall - self._wall,
            up=traffic.up,
            down=traffic.down,
            messages=traffic.messages,
        )
        self._cpu, self._wall, self._grid.traffic = cpu, wall, Traffic()

        return stage


class TimedJournal(MemoryJournal):
    """Ends a stage when the campaign enters its next state."""

    def __init__(self, watch: StopWatch, before: FederationFigures) -> None:
        super().__init__(before=before)
        self.stages: dict[StageName, Stage] = {}
        self._watch = watch

    def enter(self, state: CampaignState, reason: str = "") -> None:
        """See `Journal`."""
        super().enter(state, reason)
        stage_of: dict[CampaignState, StageName] = {
            CampaignState.AGGREGATING: "unlearning",
            CampaignState.EVALUATING: "retention",
        }
        if state in stage_of:
            self.stages[stage_of[state]] = self._watch.lap()


@dataclass(frozen=True, slots=True)
class Order:
    """A federation to measure.

    Attributes:
        folders: of the hospitals, by node from 1 on.
        forget: who will revoke, by node.
        out: for what the server leaves on disk.
        digest: of all that the result depends on.
        machine: what it runs on.
        versions: of the libraries.
    """

    config: ScaleConfig
    card: ModelCard
    folders: Mapping[int, Path]
    forget: Mapping[int, tuple[str, ...]]
    out: Path
    digest: str
    machine: str
    versions: Mapping[str, str]

    @property
    def messages(self) -> int:
        """Expected number of answers."""
        exchanges = 1 + 2 + self.config.rounds + 2 + self.config.run.experiment.campaign.retention_rounds + 1
        return exchanges * len(self.folders) + len(self.forget) + 1


def measure_here(pipe: Connection, order: Order, out: Path) -> None:
    """`measure` in a process that was started for it: into `out`, with progress, or what went wrong, to `pipe`."""
    # Ctrl-C goes to all processes of a terminal; the first one ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def on_answer(count: int) -> None:
        pipe.send_bytes(json.dumps(count).encode())

    try:
        write_size(out, measure(order, on_answer))
    except FedForgetError as error:
        pipe.send_bytes(json.dumps(str(error)).encode())


def measure(order: Order, on_answer: Callable[[int], None]) -> Size:
    """Train, let patients revoke, audit, and run a campaign.

    `on_answer` receives the number of answered messages.

    Raises:
        FedForgetError: a hospital did not answer.
    """
    torch.set_num_threads(1)
    begin = time.monotonic()
    experiment = order.config.run.experiment

    with hospitals(order.folders, order.forget, on_answer) as grid:
        federation = connect(grid, len(order.folders))
        initial = order.card.build(experiment.seed).state_dict()
        # After the first weights exist, so that growth is what messages and sums add.
        memory = resident("self", "now")
        _warm_up(federation, order)
        federation.downlink = Downlink(experiment.wire.precision, order.card.frozen_names(), order.card.encoders)
        state = federation.downlink.start(initial)
        statuses = federation.status()
        weights = shares({name: status.retain_studies for name, status in statuses.items()})
        watch = StopWatch(grid)
        watch.lap()
        rounds = []

        for number in range(order.config.rounds):
            state, _ = average_round(
                federation, TRAIN, state, weights, experiment.train,
                epochs=experiment.train.local_epochs, number=number, seed=experiment.seed,
            )  # fmt: skip
            rounds.append(watch.lap())

        grid.revoke()
        # Revoking is the hospitals' work, and belongs to no stage.
        watch.lap()
        before, merging = _audit(federation, state, order.config)
        audit = watch.lap()
        journal = TimedJournal(watch, before)
        campaign = run_campaign(
            federation, state, experiment, journal=journal, folder=order.out, on_round=lambda _: None
        )  # fmt: skip
        last = watch.lap()
        peak = resident("self", "peak")

    stages: dict[StageName, Stage] = {
        "first round": rounds[0],
        "round": _mean(rounds[1:]),
        "audit": audit,
        **journal.stages,
        "final audit": last,
    }

    return Size(
        digest=order.digest,
        hospitals=len(order.folders),
        patients=sum(status.registered["train"] for status in statuses.values()),
        forgotten=campaign.collected.patients,
        parameters=sum(tensor.numel() for tensor in state.values()),
        stages=stages,
        merge=merging,
        memory=None if memory is None else memory / 2**20,
        peak=None if memory is None or peak is None else (peak - memory) / 2**20,
        decision=campaign.decision.outcome,
        decision_rests_on=rests_on(campaign.decision.outcome, campaign.decision.grounds),
        machine=order.machine,
        versions=dict(order.versions),
        seconds=time.monotonic() - begin,
    )


def _warm_up(federation: Federation, order: Order) -> None:
    """Train another model at one hospital first, so that one-time loading is not measured."""
    experiment = order.config.run.experiment
    other = federation.downlink.start(order.card.build(experiment.seed + 1).state_dict())
    average_round(federation, TRAIN, other, {federation.sites[0]: 1.0}, experiment.train, epochs=1, number=0, seed=1)


def _audit(federation: Federation, state: State, config: ScaleConfig) -> tuple[FederationFigures, float]:
    """As `server.campaign.campaign.audit`, with the core seconds that merging takes."""
    experiment = config.run.experiment
    merging = AuditMerge()
    seconds = 0.0
    request = EvaluateRequest(purpose="audit", seed=experiment.seed, decision=experiment.decision)

    for name, reply in evaluate(federation, state, request):
        begin = time.process_time()
        if reply.audit is not None:
            merging.add(name, reply.audit)
        seconds += time.process_time() - begin

    begin = time.process_time()
    figures = merging.result()

    return figures, seconds + time.process_time() - begin


def _mean(laps: Sequence[Stage]) -> Stage:
    count = len(laps)
    return Stage(
        server=sum(lap.server for lap in laps) / count,
        hospitals=sum(lap.hospitals for lap in laps) / count,
        slowest=sum(lap.slowest for lap in laps) / count,
        wall=sum(lap.wall for lap in laps) / count,
        up=round(sum(lap.up for lap in laps) / count),
        down=round(sum(lap.down for lap in laps) / count),
        messages=round(sum(lap.messages for lap in laps) / count),
    )
