"""A campaign: from pending revocations to a new global model, its audit and the decision.

Every step passes through a journal, so that a campaign that was cut short goes on from the last finished one.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel
from torch import Tensor

from common.config import DecisionConfig, ExperimentConfig, TrainConfig
from common.errors import ConfigError, UnavailableError
from common.evaluation.decision import Decision, decide
from common.evaluation.figures import FederationFigures, SelectionFigures
from common.evaluation.merge import merge
from common.wire import RETAIN, UNLEARN, EvaluateRequest, UnlearnReply, UnlearnRequest
from server.aggregation import DeltaSpool, RunningMean, State, shares
from server.federation import Federation, Meter
from server.journal import Journal, step
from server.states import CampaignState
from server.training import OnRound, Round, average_round, evaluate, select


class Collected(BaseModel):
    """What the sites said when the campaign began: it weighs and forgets by this to its end."""

    forgetting: tuple[str, ...]
    retain_studies: dict[str, int]
    """Registered studies to train on; what averaging weighs by."""
    patients: int = 0
    """To be forgotten, over all sites."""


class Stage(BaseModel):
    """A finished round and what it cost."""

    record: Round
    cost: dict[str, float]


@dataclass(frozen=True, slots=True)
class Campaign:
    """The candidate, how it came about, what it cost, and what was decided."""

    state: State
    collected: Collected
    rounds: tuple[Round, ...]
    unlearn_cost: Meter
    retain_cost: Meter
    before: FederationFigures
    figures: FederationFigures
    decision: Decision


def audit(federation: Federation, state: Mapping[str, Tensor], config: DecisionConfig, seed: int) -> FederationFigures:
    """Audit a model at every site and merge. Opens the audit patients: once per campaign and candidate."""
    replies = evaluate(federation, state, EvaluateRequest(purpose="audit", seed=seed, decision=config))
    parts = {name: reply.audit for name, reply in replies if reply.audit is not None}
    if not parts:
        raise UnavailableError("no site returned an audit")
    return merge(parts)


def collect(federation: Federation) -> Collected:
    """Ask every site for its counts."""
    statuses = federation.status()
    return Collected(
        forgetting=tuple(name for name in sorted(statuses) if statuses[name].pending),
        retain_studies={name: s.retain_studies for name, s in statuses.items() if s.retain_studies},
        patients=sum(s.pending for s in statuses.values()),
    )


def run_campaign(
    federation: Federation,
    parent: Mapping[str, Tensor],
    config: ExperimentConfig,
    *,
    journal: Journal,
    folder: Path,
    on_round: OnRound,
    quorum: float = 0.0,
) -> Campaign:
    """Unlearn at the forgetting sites, aggregate, run retention rounds at all, audit once, decide.

    Of the retention rounds the one is kept whose worst branch is nearest to .5 on the *calibration* patients.

    Raises:
        UnavailableError: no revocation is pending, a forgetting site did not answer, or too few did.
    """
    journal.enter(CampaignState.COLLECTING)
    federation.downlink.begin()
    collected, _ = step(journal, "collect", Collected, lambda: (collect(federation), None))
    if not collected.forgetting:
        raise UnavailableError("no site has a pending revocation")
    before, _ = step(
        journal,
        "before",
        FederationFigures,
        lambda: (audit(federation, parent, config.decision, config.seed), None),
    )
    journal.enter(CampaignState.UNLEARNING)
    unlearning = Meter()
    state = aggregate(
        federation, parent, collected, config, journal=journal, folder=folder, meter=unlearning, quorum=quorum
    )
    # A new line: what unlearning left of rounding errors must not come back in retention.
    federation.downlink.begin()
    state = federation.downlink.advance(parent, state.items())
    record = Round(phase="unlearn", round=0, seconds=unlearning.seconds)
    on_round(record)
    rounds, retaining = [record], Meter()
    candidates, records = _retain(
        federation, state, collected, config, journal=journal, meter=retaining, on_round=on_round, quorum=quorum
    )
    journal.enter(CampaignState.EVALUATING)
    chosen = choose_round([r.selection for r in records])
    rounds += [r.model_copy(update={"kept": r.round == chosen}) for r in records]
    state = candidates[chosen]
    figures, _ = step(
        journal,
        "audit",
        FederationFigures,
        lambda: (audit(federation, state, config.decision, config.seed), None),
    )
    journal.enter(CampaignState.DECIDING)
    decision = decide(before, figures, config.decision)
    return Campaign(state, collected, tuple(rounds), unlearning, retaining, before, figures, decision)


def _retain(
    federation: Federation,
    state: State,
    collected: Collected,
    config: ExperimentConfig,
    *,
    journal: Journal,
    meter: Meter,
    on_round: OnRound,
    quorum: float,
) -> tuple[list[State], list[Round]]:
    """The model after unlearning and after each retention round, with a record of each."""
    journal.enter(CampaignState.AGGREGATING)
    if config.campaign.retention_rounds:
        journal.enter(CampaignState.RETAINING)
    states, records = [state], []
    for number in range(config.campaign.retention_rounds):
        current = states[-1]

        def work(number: int = number, current: State = current) -> tuple[Stage, State]:
            federation.meter = Meter()
            after, record = average_round(
                federation,
                RETAIN,
                current,
                shares(collected.retain_studies),
                retention_config(config),
                epochs=config.campaign.retention_epochs,
                number=number,
                seed=config.seed,
                quorum=quorum,
            )
            _note_missing(journal, record)
            return Stage(record=record, cost=asdict(federation.meter)), after

        stage, after = step(journal, f"retain:{number}", Stage, work)
        meter.add(Meter.of(stage.cost))
        on_round(stage.record)
        records.append(stage.record)
        states.append(after)

    def look() -> tuple[Stage, None]:
        federation.meter = Meter()
        # With a single candidate there is nothing to choose, and the audit says the rest.
        found = select(federation, states[-1], config.seed) if len(states) > 1 else None
        last = Round(phase="retain", round=len(states) - 1, selection=found)
        return Stage(record=last, cost=asdict(federation.meter)), None

    stage, _ = step(journal, "select", Stage, look)
    meter.add(Meter.of(stage.cost))
    on_round(stage.record)
    return states, [*records, stage.record]


def _note_missing(journal: Journal, record: Round) -> None:
    if record.missing:
        journal.note("late", f"{record.phase} round {record.round} went on without {', '.join(record.missing)}")


def retention_config(config: ExperimentConfig) -> TrainConfig:
    """Training settings of the retention rounds."""
    return config.train.model_copy(update={"lr": config.train.lr * config.campaign.retention_lr_scale})


def choose_round(figures: list[SelectionFigures | None]) -> int:
    """Position of the candidate whose worst branch is nearest to .5 on calibration patients; the later one if equal.

    The model straight after unlearning (position 0) only counts when there was no retention round.
    """
    start = 1 if len(figures) > 1 else 0
    worst = {}
    for at in range(start, len(figures)):
        found = figures[at]
        gaps = [abs(m.auc - 0.5) for m in found.membership.values() if m.auc is not None] if found else []
        worst[at] = max(gaps, default=0.0)
    return min(reversed(range(start, len(figures))), key=lambda at: round(worst[at], 2))


def aggregate(
    federation: Federation,
    parent: Mapping[str, Tensor],
    collected: Collected,
    config: ExperimentConfig,
    *,
    journal: Journal,
    folder: Path,
    meter: Meter,
    quorum: float = 0.0,
) -> State:
    """Have the forgetting sites unlearn and form the next model as `config.campaign.aggregation` says.

    Raises:
        ConfigError: `replace` with several forgetting sites.
        UnavailableError: a forgetting site did not unlearn; nothing may be published without it.
    """
    forgetting = collected.forgetting
    how = config.campaign.aggregation
    if how == "replace" and len(forgetting) > 1:
        raise ConfigError(
            f"replace takes one forgetting site, {len(forgetting)} have revocations",
            where="campaign.aggregation",
            remedy="use relay or scaled",
        )
    if how in {"replace", "relay"}:
        state: State = dict(parent)
        for name in forgetting:
            ((_, state),) = _unlearn(federation, state, [name], config, journal, meter)
        return state
    if how == "scaled":
        spool = DeltaSpool(folder / "spool")
        for name, after in _unlearn(federation, parent, forgetting, config, journal, meter):
            spool.add(name, parent, after)
        return spool.apply(parent)
    return _naive(federation, parent, collected, config, journal, meter, quorum)


def _naive(
    federation: Federation,
    parent: Mapping[str, Tensor],
    collected: Collected,
    config: ExperimentConfig,
    journal: Journal,
    meter: Meter,
    quorum: float,
) -> State:
    """Plain FedAvg of the unlearned model with the others', who train on: keeps only p of the unlearning step."""
    registered = shares(collected.retain_studies)
    mean = RunningMean()
    for name, after in _unlearn(federation, parent, collected.forgetting, config, journal, meter):
        mean.add(after, registered[name])
    others = {name: share for name, share in registered.items() if name not in collected.forgetting}
    if others:

        def work() -> tuple[Stage, State]:
            federation.meter = Meter()
            rest, record = average_round(
                federation,
                RETAIN,
                parent,
                others,
                retention_config(config),
                epochs=config.campaign.retention_epochs,
                number=-1,
                seed=config.seed,
                quorum=quorum,
            )
            return Stage(record=record, cost=asdict(federation.meter)), rest

        stage, rest = step(journal, "others", Stage, work)
        meter.add(Meter.of(stage.cost))
        mean.add(rest, sum(others.values()))
    return mean.result(parent)


class Unlearned(BaseModel):
    """One site's unlearning: what it says of it, and what it cost."""

    reply: UnlearnReply
    cost: dict[str, float]


def _unlearn(
    federation: Federation,
    state: Mapping[str, Tensor],
    sites: Collection[str],
    config: ExperimentConfig,
    journal: Journal,
    meter: Meter,
) -> Iterator[tuple[str, State]]:
    """Each site's unlearned weights as they come; those that came before a restart first.

    Raises:
        UnavailableError: a site did not unlearn; nothing may be published without it.
    """
    missing = set(sites)
    for name in sorted(sites):
        found = journal.get(f"unlearn:{name}", Unlearned)
        if found is not None:
            missing.discard(name)
            meter.add(Meter.of(found[0].cost))
            yield name, found[1]
    if not missing:
        return
    federation.meter = Meter()
    federation.begin(UNLEARN)
    begin = time.monotonic()
    request = UnlearnRequest(config=config.unlearn, seed=config.seed)
    for name, records in federation.ask(UNLEARN, request, state, sorted(missing)):
        reply = federation.read(name, UNLEARN, records, UnlearnReply)
        decoded = federation.weights(name, UNLEARN, records, state)
        if reply is None or decoded is None:
            continue
        weights = dict(decoded)
        federation.meter.forward_units += reply.cost
        federation.meter.seconds += time.monotonic() - begin
        begin = time.monotonic()
        journal.put(f"unlearn:{name}", Unlearned(reply=reply, cost=asdict(federation.meter)), weights)
        meter.add(federation.meter)
        federation.meter = Meter()
        missing.discard(name)
        yield name, weights
    if missing:
        raise UnavailableError(f"{', '.join(sorted(missing))} did not unlearn")
