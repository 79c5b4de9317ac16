"""A campaign: from pending revocations to a new global model, its audit and the decision."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from common.config import DecisionConfig, ExperimentConfig, TrainConfig, UnlearnConfig
from common.errors import ConfigError, UnavailableError
from common.evaluation.decision import Decision, decide
from common.evaluation.figures import FederationFigures, SelectionFigures
from common.evaluation.merge import merge
from common.model.checkpoint import check_state
from common.wire import (
    RETAIN,
    UNLEARN,
    EvaluateRequest,
    UnlearnReply,
    UnlearnRequest,
    pack,
    unpack,
    weights_of,
)
from server.aggregation import DeltaSpool, RunningMean, State, shares
from server.federation import Federation, Meter
from server.training import OnRound, Round, average_round, evaluate, select


@dataclass(frozen=True, slots=True)
class Campaign:
    """The candidate, how it came about, what it cost, and what was decided."""

    state: State
    rounds: tuple[Round, ...]
    unlearn_cost: Meter
    retain_cost: Meter
    figures: FederationFigures
    decision: Decision


def audit(federation: Federation, state: Mapping[str, Tensor], config: DecisionConfig, seed: int) -> FederationFigures:
    """Audit a model at every site and merge. Opens the audit patients: once per campaign and candidate."""
    replies = evaluate(federation, state, EvaluateRequest(purpose="audit", seed=seed, decision=config))
    parts = {name: reply.audit for name, reply in replies if reply.audit is not None}
    if not parts:
        raise UnavailableError("no site returned an audit")
    return merge(parts)


def run_campaign(
    federation: Federation,
    parent: Mapping[str, Tensor],
    before: FederationFigures,
    config: ExperimentConfig,
    *,
    folder: Path,
    on_round: OnRound,
) -> Campaign:
    """Unlearn at the forgetting sites, aggregate, run retention rounds at all, audit once, decide.

    Of the retention rounds the one is kept whose worst branch is nearest to .5 on the *calibration* patients.
    """
    statuses = federation.status()
    forgetting = [name for name in sorted(statuses) if statuses[name].pending]
    if not forgetting:
        raise UnavailableError("no site has a pending revocation")
    unlearning, retaining = Meter(), Meter()
    federation.meter = unlearning
    begin = time.monotonic()
    state = aggregate(federation, parent, forgetting, config, folder=folder)
    record = Round(phase="unlearn", round=0, seconds=time.monotonic() - begin)
    on_round(record)
    rounds = [record]

    federation.meter = retaining
    registered = shares({name: s.retain_studies for name, s in statuses.items() if s.retain_studies})
    candidates: list[tuple[State, Round]] = []
    for number in range(config.campaign.retention_rounds):
        after, record = average_round(
            federation,
            RETAIN,
            state,
            registered,
            retention_config(config),
            epochs=config.campaign.retention_epochs,
            number=number,
            seed=config.seed,
        )
        candidates.append((state, record))
        on_round(record)
        rounds.append(record)
        state = after
    # With a single candidate there is nothing to choose, and the audit says the rest.
    several = len(candidates) > 1
    selection = select(federation, state, config.seed) if several else None
    last = Round(phase="retain", round=len(candidates), selection=selection)
    candidates.append((state, last))
    on_round(last)
    chosen = choose_round([r.selection for _, r in candidates])
    state = candidates[chosen][0]
    rounds = [*rounds, last]
    rounds = [r.model_copy(update={"kept": r.phase == "retain" and r.round == chosen}) for r in rounds]
    figures = audit(federation, state, config.decision, config.seed)
    return Campaign(state, tuple(rounds), unlearning, retaining, figures, decide(before, figures, config.decision))


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
    forgetting: list[str],
    config: ExperimentConfig,
    *,
    folder: Path,
) -> State:
    """Have `forgetting` unlearn and form the next model as `config.campaign.aggregation` says.

    Raises:
        ConfigError: `replace` with several forgetting sites.
    """
    match config.campaign.aggregation:
        case "replace" | "relay" as how:
            if how == "replace" and len(forgetting) > 1:
                raise ConfigError(
                    f"replace takes one forgetting site, {len(forgetting)} have revocations",
                    where="campaign.aggregation",
                    remedy="use relay or scaled",
                )
            state: State = dict(parent)
            for name in forgetting:
                ((_, state),) = _unlearn(federation, state, [name], config.unlearn, config.seed)
            return state
        case "scaled":
            spool = DeltaSpool(folder / "spool")
            for name, after in _unlearn(federation, parent, forgetting, config.unlearn, config.seed):
                spool.add(name, parent, after)
            return spool.apply(parent)
        case "naive":
            return _naive(federation, parent, forgetting, config)


def _naive(
    federation: Federation, parent: Mapping[str, Tensor], forgetting: list[str], config: ExperimentConfig
) -> State:
    """Plain FedAvg of the unlearned model with the others', who train on: keeps only p of the unlearning step."""
    registered = shares({name: s.retain_studies for name, s in federation.status().items()})
    mean = RunningMean()
    for name, after in _unlearn(federation, parent, forgetting, config.unlearn, config.seed):
        mean.add(after, registered[name])
    others = {name: share for name, share in registered.items() if name not in forgetting and share > 0}
    if others:
        rest, _ = average_round(
            federation,
            RETAIN,
            parent,
            others,
            retention_config(config),
            epochs=config.campaign.retention_epochs,
            number=-1,
            seed=config.seed,
        )
        mean.add(rest, sum(others.values()))
    return mean.result(parent)


def _unlearn(
    federation: Federation, state: Mapping[str, Tensor], sites: list[str], config: UnlearnConfig, seed: int
) -> Iterator[tuple[str, State]]:
    """Each site's unlearned weights as they come.

    Raises:
        UnavailableError: a site did not unlearn; nothing may be published without it.
    """
    request = pack(UnlearnRequest(config=config, seed=seed), state)
    missing = set(sites)
    for name, records in federation.exchange(UNLEARN, dict.fromkeys(sites, request)):
        federation.meter.forward_units += unpack(records, UnlearnReply).cost
        weights = weights_of(records)
        check_state(weights, state, where=name)
        missing.discard(name)
        yield name, weights
    if missing:
        raise UnavailableError(f"{', '.join(sorted(missing))} did not unlearn")
