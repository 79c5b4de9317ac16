"""Methods that run at the forgetting hospitals: they are asked, and their models become one."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict

from flwr.app import RecordDict
from pydantic import BaseModel
from torch import Tensor

from common.errors import ConfigError, UnavailableError
from common.learning.model.checkpoint import state_digest
from common.protocol.messages import UNLEARN, UnlearnReply, UnlearnRequest
from server.rounds.aggregation import RunningMean, State
from server.rounds.exchanges.meter import Meter
from server.rounds.unlearning.base import NotUnlearnedError, Task, chosen_aggregation, others_round
from server.rounds.weights.conflicts import DeltaSpool
from server.rounds.weights.walk import measure


class Unlearned(BaseModel):
    """One site's unlearning: what it says of it, and what it cost."""

    reply: UnlearnReply
    cost: dict[str, float]
    received: str = ""
    """Digest of the weights that the site began from. Empty, as are the next two, in records of an earlier version."""
    unlearned: str = ""
    """Of those that came back."""
    norm: float = 0.0
    """L2 norm of the step between them."""


def at_sites(task: Task) -> State:
    """Have the forgetting sites unlearn and form the next model as `campaign.aggregation` says.

    Raises:
        ConfigError: `replace` with several forgetting sites.
        NotUnlearnedError: a forgetting site did not unlearn.
    """
    forgetting = task.collected.forgetting
    how = chosen_aggregation(task.config.campaign.aggregation, len(forgetting))

    if how == "replace" and len(forgetting) > 1:
        raise ConfigError(
            f"replace takes one forgetting site, {len(forgetting)} have revocations",
            where="campaign.aggregation",
            remedy="use auto, relay or scaled",
        )

    if how in {"replace", "relay"}:
        # Each site unlearns from what the one before returned. The order is on record, so that a restart repeats it.
        state: State = dict(task.parent)
        for name in forgetting:
            ((_, state),) = _unlearn(task, state, [name])
        return state

    if how == "scaled":
        spool = DeltaSpool(task.folder / "spool")
        for name, after in _unlearn(task, task.parent, forgetting):
            spool.add(name, task.parent, after)
        return spool.apply(task.parent)

    return _naive(task)


def _naive(task: Task) -> State:
    """Plain FedAvg of the unlearned model with the others', who train on: keeps only p of the unlearning step."""
    # Over all sites: those that forget and those that train on weigh 1 together.
    share_by_site = task.federation.shares(task.collected.retain_studies)
    mean = RunningMean()
    for name, after in _unlearn(task, task.parent, task.collected.forgetting):
        mean.add(after, share_by_site[name])
    if (others := others_round(task)) is not None:
        mean.add(*others)
    return mean.result(task.parent)


def _unlearn(task: Task, state: Mapping[str, Tensor], sites: Collection[str]) -> Iterator[tuple[str, State]]:
    """Each site's unlearned weights as they come; those that came before a restart first.

    Raises:
        NotUnlearnedError: a site did not unlearn.
    """
    federation = task.federation
    journal = task.journal
    meter = task.meter
    config = task.config
    missing = set(sites)

    for name in sorted(sites):
        entry = journal.get(f"unlearn:{name}", Unlearned)
        if entry is not None:
            missing.discard(name)
            meter.add(Meter.of(entry[0].cost))
            # Sites that answered before a restart are not asked again: unlearning has a cost, and another run another
            # model.
            yield name, entry[1]

    if not missing:
        return
    federation.meter = Meter()
    federation.begin(UNLEARN)
    begin = time.monotonic()
    request = UnlearnRequest(config=config.unlearn, seed=config.seed)

    for name, records in _answers(federation.ask(UNLEARN, request, state, sorted(missing)), missing):
        reply = federation.read(name, UNLEARN, records, UnlearnReply)
        # Decoded once: all of it is kept.
        after = None if reply is None else federation.weights(name, UNLEARN, records, state, decode=True)
        if reply is None or after is None:
            continue
        weights = dict(after)
        federation.meter.forward_units += reply.cost
        federation.meter.seconds += time.monotonic() - begin
        begin = time.monotonic()
        unlearning = Unlearned(
            reply=reply,
            cost=asdict(federation.meter),
            received=state_digest(state),
            unlearned=state_digest(weights),
            norm=measure(weights, state).norm,
        )
        # Durable before it is handed on: a restart must find each site's hours of work.
        journal.put(f"unlearn:{name}", unlearning, weights)
        meter.add(federation.meter)
        # One meter per site, so that the journal can say what each one's unlearning cost.
        federation.meter = Meter()
        missing.discard(name)
        yield name, weights

    # All or nothing: a version that one hospital did not unlearn must not be attested as if it had.
    if missing:
        raise NotUnlearnedError(f"{', '.join(sorted(missing))} did not unlearn", missing)


def _answers(exchange: Iterator[tuple[str, RecordDict]], asked: Collection[str]) -> Iterator[tuple[str, RecordDict]]:
    """The replies; that there is none at all is the asked sites' failure."""
    try:
        yield from exchange
    except UnavailableError as error:
        raise NotUnlearnedError(str(error), asked) from error
