"""Batches arrivals into campaigns with the coordinator's own policy; a pure function on simulated time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from client.revocations.deadline import first_due
from server.campaign.policy import SiteState, Start, decide
from server.settings import PolicyConfig
from simulations.stream.arrivals import Arrival


@dataclass(frozen=True, slots=True)
class Batch:
    """The revocations of one campaign; `due` is the earliest due date among them."""

    at: datetime
    reason: str
    arrivals: tuple[Arrival, ...]
    due: datetime


def batches_apart(arrived: Sequence[Arrival], policy: PolicyConfig) -> tuple[Batch, ...]:
    """As `batches`, with the policy asked for each hospital on its own: no batch has patients of two hospitals."""
    by_site: dict[str, list[Arrival]] = defaultdict(list)
    for arrival in arrived:
        by_site[arrival.site].append(arrival)
    of_all = [batch for own in by_site.values() for batch in batches(own, policy)]

    return tuple(sorted(of_all, key=lambda batch: (batch.at, batch.arrivals[0].site)))


def batches(arrived: Sequence[Arrival], policy: PolicyConfig) -> tuple[Batch, ...]:
    """Every arrival is in one batch; a campaign takes no simulated time.

    The clock moves to the next moment at which the policy can decide anew: an arrival, or the time that the policy
    names.
    """
    coming = sorted(arrived, key=lambda arrival: arrival.at)
    waiting: list[Arrival] = []
    starts: dict[str, list[datetime]] = defaultdict(list)
    result: list[Batch] = []
    now = coming[0].at if coming else None

    while now is not None:
        while coming and coming[0].at <= now:
            waiting.append(coming.pop(0))
        decision = decide(now, _sites(waiting), policy, running=False, recent=starts)
        if isinstance(decision, Start):
            batch = tuple(a for a in waiting if a.site in decision.sites)
            waiting = [a for a in waiting if a.site not in decision.sites]
            result.append(Batch(now, decision.reason, batch, min(first_due(a.at) for a in batch)))
            for site in decision.sites:
                starts[site].append(now)
            # Without moving the clock: what still waits may start the next campaign at once.
            continue

        moments = [coming[0].at] if coming else []
        now = min([*moments, decision.until] if decision.until is not None else moments, default=None)

    return tuple(result)


def _sites(waiting: Sequence[Arrival]) -> list[SiteState]:
    by_site: dict[str, list[datetime]] = defaultdict(list)
    for arrival in waiting:
        by_site[arrival.site].append(arrival.at)
    return [
        SiteState(name, active=True, pending=len(at), waiting_since=min(at), first_due=min(map(first_due, at)))
        for name, at in sorted(by_site.items())
    ]
