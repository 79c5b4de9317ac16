"""One wave: unlearn, retention rounds and scoring of several candidates, in the exchanges of one campaign."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial

from flwr.app import RecordDict
from pydantic import BaseModel
from torch import Tensor

from common.errors import UnavailableError, WireError
from common.learning.config import ExperimentConfig
from common.learning.evaluation.qualification.conformity import Process
from common.learning.model.checkpoint import state_digest
from common.protocol.deltas import Decoded
from common.protocol.messages import RETAIN, UNLEARN
from common.protocol.rehearsals import REHEARSE, Rehearsal, RehearseReply, RehearseRequest, Step
from common.protocol.several_models import joined, joined_names, parted
from common.protocol.wire import arrays_of
from server.campaign.qualification.folder_journal import FolderJournal
from server.campaign.qualification.register import Register
from server.rounds.aggregation import RunningMean, State
from server.rounds.checks.update_gate import to_end
from server.rounds.exchanges.downlink import Downlink
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.journal import step
from server.rounds.unlearning.base import retention_config
from server.rounds.weights.walk import measure


class WaveStep(BaseModel):
    """What a finished step of a wave leaves beside the candidates."""

    cost: dict[str, float] = {}
    processes: dict[int, Process] = {}
    refused: dict[int, str] = {}
    distances: dict[int, float] = {}


class WaveRecord(BaseModel):
    """A finished wave."""

    chosen: dict[int, int]
    """Retention round that was kept of each rehearsal."""
    processes: dict[int, Process]
    refused: dict[int, str]
    """Rehearsals that did not come about, and why."""
    cost: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Waves:
    """Runs the waves of one registered qualification.

    Attributes:
        federation: the sites.
        parent: the model in use.
        config: of the experiment.
        register: what was fixed beforehand.
        journal: finished steps.
        before_exchange: called before each exchange; raises where a real campaign needs the sites.
        quorum: smallest share of the registered studies that a retention round goes on with.
    """

    federation: Federation
    parent: Mapping[str, Tensor]
    config: ExperimentConfig
    register: Register
    journal: FolderJournal
    before_exchange: Callable[[], None] = lambda: None
    quorum: float = 0.0

    @cached_property
    def version(self) -> str:
        """Digest of the model in use."""
        return state_digest(self.parent)

    def run(self, number: int, rehearsals: tuple[Rehearsal, ...]) -> WaveRecord:
        """Carry out wave `number`, or what is left of it.

        Raises:
            UnavailableError: too few sites answered.
        """
        record_before = self.journal.body(f"wave-{number}", WaveRecord)
        if record_before is not None:
            return record_before
        begin = time.monotonic()
        # Steps from a model that is no longer in use are done again from the one that is.
        name = f"wave-{number}-{self.version[:12]}-"
        unlearning, state = step(self.journal, f"{name}unlearn", WaveStep, partial(self._unlearn, rehearsals))
        going = tuple(one for one in rehearsals if one.number in unlearning.processes)
        steps = [unlearning]
        usual = self.federation.downlink
        rounds = self.register.retention_rounds

        try:
            if going:
                keys = tuple(one.key for one in going)
                # Candidates travel joined, under names and with rounding errors of their own.
                self.federation.downlink = Downlink(usual.precision, joined_names(usual.frozen, keys), usual.encoders)
                self.federation.downlink.begin()
                for at in range(rounds):
                    work = partial(self._retain, going, state, at)
                    wave_step, state = step(self.journal, f"{name}retain-{at}", WaveStep, work)
                    steps.append(wave_step)
                scoring, _ = step(self.journal, f"{name}score", WaveStep, partial(self._score, going, state))
                steps.append(scoring)
        finally:
            self.federation.downlink = usual

        total = Meter()
        for wave_step in steps:
            total.add(Meter.of(wave_step.cost))
        record = WaveRecord(
            chosen={one.number: _chosen(one, steps, rounds) for one in going},
            processes=unlearning.processes,
            refused=unlearning.refused,
            cost=asdict(total),
            seconds=time.monotonic() - begin,
        )
        self.journal.put(f"wave-{number}", record)
        # Candidates derive from patients: they go as soon as the record of the wave is durable.
        self.journal.drop_weights(f"wave-{number}-")

        return record

    def _unlearn(self, rehearsals: tuple[Rehearsal, ...]) -> tuple[WaveStep, State]:
        by_site = {one.site for one in rehearsals}
        numbers = {one.number: one for one in rehearsals}
        states: dict[str, State] = {}
        wave_step = WaveStep()

        for site, records, reply in self._ask(self._request("unlearn", rehearsals), self.parent):
            if site not in by_site:
                continue
            # A site reports on its own rehearsals only; what it says of others' is passed over.
            own = {o.number: numbers[o.number] for o in reply.unlearned if o.number in numbers}
            own = {number: one for number, one in own.items() if one.site == site}
            wave_step.refused.update({n: why for n, why in reply.refused.items() if n in numbers})
            after = self._candidates(site, records, {one.key: self.parent for one in own.values()})

            for result in reply.unlearned:
                one = own.get(result.number)
                weights = None if one is None or after is None else after[one.key]
                if one is None or weights is None or not self._accepts(site, UNLEARN, self.parent, weights):
                    wave_step.refused[result.number] = "its weights were refused"
                    continue
                states[one.key] = weights
                gap = max(result.gaps) if result.gaps else 0.0
                wave_step.processes[one.number] = Process(
                    patients=one.patients,
                    gap=gap,
                    norm=measure(weights, self.parent).norm,
                    passes=result.passes,
                    reached=gap < self.config.unlearn.tolerance,
                )

        silent = dict.fromkeys(numbers.keys() - wave_step.processes.keys() - wave_step.refused.keys(), "no answer")
        if len(silent) == len(numbers):
            raise UnavailableError(f"no hospital unlearned in rehearsals {min(silent)} to {max(silent)}")
        wave_step.refused.update(silent)
        order = [one.key for one in rehearsals if one.key in states]

        return self._paid(wave_step), joined({key: states[key] for key in order})

    def _retain(self, going: tuple[Rehearsal, ...], state: State, number: int) -> tuple[WaveStep, State]:
        """A retention round of all candidates: each mean is formed and checked by itself."""
        federation = self.federation
        before = parted(state, [one.key for one in going])
        frozen = frozenset(name.partition("/")[2] for name in federation.downlink.frozen)
        means = {key: RunningMean(frozen) for key in before}
        shares_added = dict.fromkeys(before, 0.0)
        shares = federation.shares(federation.retained(federation.status()))
        wave_step = WaveStep()

        for site, records, reply in self._ask(self._request("retain", going, number), state):
            wave_step.distances.update(_own(reply, going, site))
            if site not in shares:
                continue
            after = self._candidates(site, records, before) or {}
            for key, weights in after.items():
                if not self._accepts(site, RETAIN, before[key], weights):
                    continue
                if federation.attempt(site, REHEARSE, partial(_added, means[key], weights, shares[site])):
                    shares_added[key] += shares[site]

        # As in a campaign: the largest site must not be able to stop every round by its silence.
        least_share = min(self.quorum, 1 - max(shares.values())) if len(shares) > 1 else self.quorum
        # The least of all counts: the rehearsals of a wave are judged together.
        if min(shares_added.values()) < max(least_share, 1e-9):
            raise UnavailableError(
                f"sites with {min(shares_added.values()):.0%} of the studies took part in a rehearsal"
            )
        averages = ((f"{key}/{name}", tensor) for key in before for name, tensor in means[key].means(before[key]))
        next_state = federation.downlink.advance(state, averages)
        for key, weights in parted(next_state, before).items():
            federation.check_aggregate(RETAIN, before[key], weights)

        return self._paid(wave_step), next_state

    def _score(self, going: tuple[Rehearsal, ...], state: State) -> tuple[WaveStep, None]:
        wave_step = WaveStep()
        for site, _, reply in self._ask(self._request("score", going, self.register.retention_rounds), state):
            wave_step.distances.update(_own(reply, going, site))

        return self._paid(wave_step), None

    def _request(self, what: Step, rehearsals: tuple[Rehearsal, ...], number: int = 0) -> RehearseRequest:
        return request_of(self.register, self.config, self.version, what, rehearsals, number)

    def _ask(
        self, request: RehearseRequest, state: Mapping[str, Tensor]
    ) -> Iterator[tuple[str, RecordDict, RehearseReply]]:
        self.before_exchange()
        self.federation.meter = Meter()
        self.federation.begin(f"rehearse-{request.step}", request.round)
        for site, records in self.federation.ask(REHEARSE, request, state, self.federation.sites):
            reply = self.federation.read(site, REHEARSE, records, RehearseReply)
            if reply is not None:
                self.federation.meter.forward_units += reply.cost
                yield site, records, reply

    def _candidates(
        self, site: str, records: RecordDict, before: Mapping[str, Mapping[str, Tensor]]
    ) -> dict[str, State] | None:
        """The candidates in a reply by their keys; None, and reported, if they cannot be read."""
        if not before:
            return {}

        def work() -> dict[str, State]:
            arrays = arrays_of(records)
            if self.federation.downlink.frozen & arrays.keys():
                raise WireError("weights of frozen layers")
            return parted(dict(Decoded(arrays, joined(before))), before)

        return self.federation.attempt(site, REHEARSE, work)

    def _accepts(self, site: str, kind: str, before: Mapping[str, Tensor], after: State) -> bool:
        accepts = self.federation.accepts
        return bool(self.federation.attempt(site, kind, lambda: accepts(site, kind, before, after, to_end)))

    def _paid(self, done: WaveStep) -> WaveStep:
        return done.model_copy(update={"cost": asdict(self.federation.meter)})


def request_of(
    register: Register,
    config: ExperimentConfig,
    version: str,
    what: Step,
    rehearsals: tuple[Rehearsal, ...] = (),
    number: int = 0,
    chosen: Mapping[int, int] | None = None,
) -> RehearseRequest:
    """A request of the registered qualification."""
    return RehearseRequest(
        qualification=register.digest,
        version=version,
        step=what,
        round=number,
        rehearsals=rehearsals,
        unlearn=config.unlearn,
        train=retention_config(config),
        epochs=config.campaign.retention_epochs,
        seed=config.seed,
        plan=register.plan,
        chosen=dict(chosen or {}),
    )


def _added(mean: RunningMean, weights: Mapping[str, Tensor], share: float) -> bool:
    mean.add(weights, share)
    return True


def _own(reply: RehearseReply, going: tuple[Rehearsal, ...], site: str) -> dict[int, float]:
    own = {one.number for one in going if one.site == site}
    return {number: value for number, value in reply.distances.items() if number in own}


def _chosen(one: Rehearsal, steps: list[WaveStep], rounds: int) -> int:
    """The round whose worst branch is nearest to .5 on calibration patients, the later one if equal, as in a campaign.

    `steps` are the unlearning, the retention rounds from 0, and the scoring: position i holds the figures of round
    i - 1.
    """
    candidates = range(min(1, rounds), rounds + 1)
    return min(reversed(candidates), key=lambda at: steps[at + 1].distances.get(one.number, 0.0))
