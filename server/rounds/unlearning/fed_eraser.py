"""FedEraser: past rounds are replayed without the forgotten (Liu et al. 2021, doi 10.1109/IWQOS52092.2021.9521274).

A replayed round takes its direction from a short training now, and its length from the step of then. So all that must
be kept of the past is one number for each site and round (`train.keep_norms`), and no update of any hospital.
See docs/adr/0008-what-fed-eraser-keeps.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from torch import Tensor

from common.errors import ConfigError, UnavailableError
from common.protocol.messages import RETAIN, TrainReply, TrainRequest
from server.rounds.aggregation import RunningMean, State
from server.rounds.exchanges.meter import Meter
from server.rounds.journal import step
from server.rounds.training import Round
from server.rounds.unlearning.base import Past, Stage, Task
from server.rounds.weights.walk import measure


def replay(task: Task) -> State:
    """From the initial weights, every `fed_eraser.interval`-th round that led to the parent.

        W <- W + sum over sites of p |U| V / |V|

    with V the site's step from W in `fed_eraser.epochs` epochs on retain data, and |U| the norm of its step then. A
    forgetting site takes part with its retain data; the paper, in which all of a client goes, leaves it out.

    Raises:
        ConfigError: the past, or the norms of its steps, were not kept.
    """
    past = task.known_past()
    rounds = _rounds(past, task.config.unlearn.fed_eraser.interval)
    state: State = dict(past.initial)

    for record in rounds:

        def work(record: Round = record, current: State = state) -> tuple[Stage, State]:
            task.federation.meter = Meter()
            after, outcome = _round(task, current, record)
            return Stage(record=outcome, cost=asdict(task.federation.meter)), after

        stage, state = step(task.journal, f"replay:{record.round}", Stage, work)
        task.meter.add(Meter.of(stage.cost))

    return state


def _rounds(past: Past, interval: int) -> list[Round]:
    """Those to replay: the kept record is of the model that its round began with, so the rounds before it count."""
    best_round = next((record.round for record in past.rounds if record.kept), 0)
    led = [record for record in past.rounds if record.round < best_round]

    # Checked before the first round runs: a missing norm in the tenth would waste nine.
    if not all(record.norms for record in led):
        raise ConfigError(
            "the training kept no norms of its steps", where="train.keep_norms", remedy="train with keep_norms = true"
        )

    return led[::interval]


def _round(task: Task, state: State, past: Round) -> tuple[State, Round]:
    federation = task.federation
    config = task.config
    share_by_site = task.federation.shares(task.collected.retain_studies)
    request = TrainRequest(
        config=config.train, epochs=config.unlearn.fed_eraser.epochs, round=past.round, seed=config.seed
    )
    federation.begin("replay", past.round)
    mean = RunningMean(federation.downlink.frozen)
    sites_taken = set()

    for name, records in federation.ask(RETAIN, request, state, share_by_site):
        reply = federation.read(name, RETAIN, records, TrainReply)
        after = federation.weights(name, RETAIN, records, state)
        del records  # no two replies are held at once
        # A site without a past norm was not in that round, and has no part in its replay.
        if reply is None or after is None or name not in past.norms:
            continue
        norm = measure(after, state).norm
        mean.add(Rescaled(state, after, past.norms[name] / norm if norm else 0.0), share_by_site[name])
        sites_taken.add(name)
        federation.meter.forward_units += reply.cost

    share = sum(share_by_site[name] for name in sites_taken) / sum(share_by_site.values())
    if not sites_taken or share < task.quorum:
        raise UnavailableError(f"sites with {share:.0%} of the studies took part in the replay, {task.quorum:.0%} must")
    missing = tuple(sorted(share_by_site.keys() - sites_taken))

    return federation.downlink.advance(state, mean.means(state)), Round(
        phase="unlearn", round=past.round, missing=missing
    )


class Rescaled(Mapping[str, Tensor]):
    """`before` plus `factor` times the step to `after`, one tensor at a time; what is no float is as it is after."""

    def __init__(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor], factor: float) -> None:
        self._before = before
        self._after = after
        self._factor = factor

    def __getitem__(self, name: str) -> Tensor:
        before = self._before[name]
        after = self._after[name]
        return before + (after - before) * self._factor if before.is_floating_point() else after

    def __iter__(self) -> Iterator[str]:
        return iter(self._before)

    def __len__(self) -> int:
        return len(self._before)
