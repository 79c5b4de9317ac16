"""When a campaign starts, and for whom: a pure decision, with the clock and the past as arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

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
    failures: int = 0
    """Campaigns in a row that were to forget its patients and ended without a version."""
    free_at: datetime | None = None
    """No campaign is planned for it before, because the last ones failed or it did not unlearn."""
    aside_until: datetime | None = None
    absent: bool = False
    """The active version learned nothing from it: there is nothing of its patients to forget."""
    last_failure: str = ""
    retrainings: int = 0
    """Published retrainings that were planned for it since it last unlearned: it leaves the work to all others."""
    is_answered: bool = False
    """The newest of them began after it announced what waits: there is nothing that another one would forget."""
    is_batched: bool = False
    """Its patients wait for the next retraining: no rung above carried their campaign."""

    def due(self, policy: PolicyConfig) -> datetime | None:
        """Of the first revocation; without a date, so long after the announcement as the policy says."""
        if self.first_due is not None or self.waiting_since is None:
            return self.first_due
        return self.waiting_since + timedelta(days=policy.undated_days)

    def needs_person(self, policy: PolicyConfig) -> bool:
        """Whether campaigns for it are started by hand only, as too many failed."""
        return self.failures >= policy.max_failures

    def leaves_it_to_others(self, policy: PolicyConfig) -> bool:
        """Whether it was retrained around so often, without unlearning once, that a person must see to it."""
        return self.retrainings >= policy.max_failures


@dataclass(frozen=True, slots=True)
class Start:
    """A campaign starts now, and these sites forget in it."""

    sites: tuple[str, ...]
    reason: str
    kind: Literal["unlearning", "retraining"] = "unlearning"


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
    *,
    at_once: int | None = None,
    renewal: str = "",
) -> Start | Wait:
    """Start a campaign or wait.

    A full batch starts at once. A smaller one starts when its first revocation has waited for the batch window, and in
    any case so long before the first due date as the policy says. A site that forgot too often within 24 hours waits
    whatever is due: only so does the limit hold against a site that abuses campaigns to change the model. After a
    campaign that failed, a site waits, and then has one of its own, so that it holds up no other.

    Patients for whom only retraining is left wait until the first of them is due soon; that retraining forgets all who
    wait anywhere.

    Args:
        now: the time.
        sites: all of them.
        policy: of the federation.
        running: a campaign is under way on the model.
        recent: when the campaigns started that were to forget at a site, by site.
        at_once: most sites in one campaign; None for any number.
        renewal: why the next campaign retrains instead of unlearning; empty where it does not.
    """
    if running:
        return Wait("a campaign is running")
    if not policy.automatic:
        return Wait("campaigns are started by hand")
    waiting = [site for site in sites if site.active and site.pending]
    if not waiting:
        return Wait("no revocation waits")
    return _or_retrain(now, waiting, policy, recent, at_once, renewal)


def _or_retrain(
    now: datetime,
    waiting: Sequence[SiteState],
    policy: PolicyConfig,
    recent: Mapping[str, Sequence[datetime]],
    at_once: int | None,
    renewal: str,
) -> Start | Wait:
    batch_at = _batch_at(now, waiting, policy, recent)
    everybody = tuple(sorted(site.name for site in waiting))
    if batch_at is not None and batch_at <= now:
        return Start(everybody, "the retraining that patients wait for is due", "retraining")
    able = [site for site in waiting if not site.needs_person(policy) and not site.is_batched]
    if not able:
        until = None if batch_at is None else f"patients wait for the retraining of {batch_at:%Y-%m-%d %H:%M} UTC"
        return Wait(until or f"needs a person: the campaigns for {', '.join(everybody)} failed", batch_at)

    choice = _batch(now, able, policy, recent, at_once)
    if isinstance(choice, Start):
        # A renewal replaces a campaign that would start now; it never starts one.
        return Start(everybody, renewal, "retraining") if renewal else choice
    # Neither is ready: look again when the first of them is.
    moments = [moment for moment in (choice.until, batch_at) if moment is not None]

    return Wait(choice.reason, min(moments, default=None))


def _batch_at(
    now: datetime, waiting: Sequence[SiteState], policy: PolicyConfig, recent: Mapping[str, Sequence[datetime]]
) -> datetime | None:
    """When the retraining begins that patients wait for; None where nobody does.

    One that failed is not begun again at once, and after too many a person begins it.
    """
    in_batch = [site for site in waiting if site.is_batched and not site.needs_person(policy)]
    if not in_batch:
        return None
    due = min(site.due(policy) or now for site in in_batch)
    begin = now if policy.retrain_batch == "each" else due - timedelta(hours=policy.lead_hours)
    # One site that may go is enough: the retraining forgets the others' patients as well.
    free = min(
        max(site.free_at or now, _free_at(now, recent.get(site.name, ()), policy.campaigns_per_day))
        for site in in_batch
    )

    return max(begin, free)


def overdue(
    now: datetime, sites: Sequence[SiteState], policy: PolicyConfig, recent: Mapping[str, Sequence[datetime]]
) -> Start | None:
    """A retraining for patients who are due soon and for whom no campaign can be planned that unlearns.

    Their hospitals are suspended, set aside, or campaigns for them failed too often. A retraining that fails as often
    is left to a person.
    """
    if not policy.automatic:
        return None
    near = timedelta(hours=policy.escalate_hours)
    names = []

    for site in sites:
        stuck = (
            not site.active or site.needs_person(policy) or (site.aside_until is not None and now < site.aside_until)
        )
        due = site.due(policy)
        if not site.pending or not stuck or site.absent or due is None or now < due - near:
            continue
        # It may announce for ever what has been retrained away, and cost everybody a training each time.
        if site.is_answered or site.leaves_it_to_others(policy):
            continue
        # Failures up to the limit are those of its own campaigns. What is beyond it are retrainings that failed.
        failed_since = site.failures - policy.max_failures if site.needs_person(policy) else site.failures
        may_start = failed_since == 0 or site.free_at is None or site.free_at <= now
        within_limit = _free_at(now, recent.get(site.name, ()), policy.campaigns_per_day) <= now
        if may_start and within_limit and failed_since < policy.max_failures:
            names.append(site.name)

    if not names:
        return None
    return Start(tuple(sorted(names)), "due, and their hospitals do not unlearn", "retraining")


def _batch(
    now: datetime,
    waiting: Sequence[SiteState],
    policy: PolicyConfig,
    recent: Mapping[str, Sequence[datetime]],
    at_once: int | None,
) -> Start | Wait:
    free_at = {site.name: _free_at(now, recent.get(site.name, ()), policy.campaigns_per_day) for site in waiting}
    for site in waiting:
        if site.free_at is not None:
            free_at[site.name] = max(free_at[site.name], site.free_at)

    free = [site for site in waiting if free_at[site.name] <= now]
    if not free:
        reason = "each site with revocations had its campaigns of the day, or waits after one that failed"
        return Wait(reason, min(free_at.values()))

    latest = {site.name: _latest_start(now, site, policy) for site in free}
    sound = [site for site in free if not site.failures]
    # Those whose last campaign failed go one by one, the most urgent first.
    alone = [[site] for site in sorted(free, key=lambda site: (latest[site.name], site.name)) if site.failures]
    groups = [group for group in (_first(sound, latest, at_once), *alone) if group]

    for group in groups:
        names = tuple(sorted(site.name for site in group))
        if sum(site.pending for site in group) >= policy.min_batch:
            return Start(names, "the batch is full")
        if min(latest[name] for name in names) <= now:
            return Start(names, "the batch has waited long enough")

    return Wait("the batch is not full", min(latest.get(name, at) for name, at in free_at.items()))


def _first(sites: list[SiteState], latest: Mapping[str, datetime], at_once: int | None) -> list[SiteState]:
    """So many of them as one campaign can hold, the most urgent first."""
    if at_once is None or len(sites) <= at_once:
        return sites
    return sorted(sites, key=lambda site: (latest[site.name], site.name))[:at_once]


def _free_at(now: datetime, starts: Sequence[datetime], limit: int) -> datetime:
    # A sliding day: the place of the `limit`-th newest start is free again 24 hours after it.
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
