"""When the next campaign starts. A pure decision: the clock, the sites and the past come in as arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from server.settings import PolicyConfig

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class SiteState:
    """What the policy looks at, of one site."""

    name: str
    active: bool
    """Neither suspended nor revoked."""
    pending: int
    waiting_since: datetime | None
    first_due: datetime | None


@dataclass(frozen=True, slots=True)
class Start:
    """A campaign starts now, and these sites forget in it."""

    sites: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """None starts; unless something is announced, nothing changes before `until`."""

    reason: str
    until: datetime | None = None


def decide(
    now: datetime,
    sites: Sequence[SiteState],
    policy: PolicyConfig,
    running: bool,
    recent: Mapping[str, Sequence[datetime]],
) -> Start | Wait:
    """Start a campaign or wait.

    A full batch starts at once. A smaller one starts when its first revocation has waited for the batch window, and in
    any case so long before the first due date as the policy says. A site that forgot too often within 24 hours waits
    whatever is due: only so does the limit hold against a site that abuses campaigns to change the model.

    Args:
        running: a campaign is under way on the model.
        recent: when the campaigns started in which a site forgot, by site.
    """
    if running:
        return Wait("a campaign is running")
    if not policy.automatic:
        return Wait("campaigns are started by hand")
    waiting = [site for site in sites if site.active and site.pending]
    if not waiting:
        return Wait("no revocation waits")
    return _batch(now, waiting, policy, recent)


def _batch(
    now: datetime, waiting: Sequence[SiteState], policy: PolicyConfig, recent: Mapping[str, Sequence[datetime]]
) -> Start | Wait:
    free_at = {site.name: _free_at(now, recent.get(site.name, ()), policy.campaigns_per_day) for site in waiting}
    free = [site for site in waiting if free_at[site.name] <= now]
    if not free:
        return Wait("each site with revocations had its campaigns of the day", min(free_at.values()))
    names = tuple(sorted(site.name for site in free))
    if sum(site.pending for site in free) >= policy.min_batch:
        return Start(names, "the batch is full")
    latest = {site.name: _latest_start(now, site, policy) for site in free}
    if min(latest.values()) <= now:
        return Start(names, "the batch has waited long enough")
    return Wait("the batch is not full", min(latest.get(name, at) for name, at in free_at.items()))


def _free_at(now: datetime, starts: Sequence[datetime], limit: int) -> datetime:
    within = sorted((at for at in starts if at > now - _DAY), reverse=True)
    return now if len(within) < limit else within[limit - 1] + _DAY


def _latest_start(now: datetime, site: SiteState, policy: PolicyConfig) -> datetime:
    """Without any date nothing tells how long it has waited, so it waits no longer."""
    times = []
    if site.waiting_since is not None:
        times.append(site.waiting_since + timedelta(hours=policy.window_hours))
    if site.first_due is not None:
        times.append(site.first_due - timedelta(hours=policy.lead_hours))
    return min(times, default=now)
