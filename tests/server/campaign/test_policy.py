from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from server.campaign.policy import SiteState, Start, Wait, decide, overdue
from server.settings import PolicyConfig

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
POLICY = PolicyConfig(min_batch=5, window_hours=72, lead_hours=168, campaigns_per_day=2)

moments = st.timedeltas(-60 * DAY, 60 * DAY).map(lambda off: NOW + off)
states = st.builds(
    SiteState,
    name=st.sampled_from(["north", "south", "east", "west"]),
    active=st.booleans(),
    pending=st.integers(0, 20),
    waiting_since=st.none() | moments,
    first_due=st.none() | moments,
)
federations = st.lists(states, max_size=4, unique_by=lambda site: site.name)
policies = st.builds(
    PolicyConfig,
    automatic=st.booleans(),
    min_batch=st.integers(1, 30),
    window_hours=st.floats(0, 500),
    lead_hours=st.floats(0, 500),
    campaigns_per_day=st.integers(1, 4),
)
pasts = st.dictionaries(st.sampled_from(["north", "south", "east", "west"]), st.lists(moments, max_size=6))


def used_up(starts: list[datetime], now: datetime, policy: PolicyConfig) -> bool:
    return len([at for at in starts if at > now - DAY]) >= policy.campaigns_per_day


def waiting(
    name: str = "north", pending: int = 1, since: datetime = NOW, due: datetime | None = None, active: bool = True
) -> SiteState:
    return SiteState(name, active, pending, since, due)


def test_a_full_batch_starts_at_once_over_all_sites() -> None:
    assert decide(NOW, [waiting("south", 3), waiting("north", 2)], POLICY, False, {}) == Start(
        ("north", "south"), "the batch is full"
    )


def test_a_small_batch_waits_for_the_window_from_the_first_revocation_on() -> None:
    sites = [waiting("north", since=NOW - 10 * HOUR), waiting("south", since=NOW)]
    found = decide(NOW, sites, POLICY, False, {})
    assert isinstance(found, Wait)
    assert found.until == NOW + 62 * HOUR
    assert isinstance(decide(NOW + 62 * HOUR, sites, POLICY, False, {}), Start)


def test_a_due_date_starts_a_small_batch_before_the_window_is_over() -> None:
    sites = [waiting(due=NOW + 8 * DAY)]
    found = decide(NOW, sites, POLICY, False, {})
    assert isinstance(found, Wait)
    assert found.until == NOW + DAY
    assert isinstance(decide(NOW + DAY, sites, POLICY, False, {}), Start)


def test_a_site_that_forgot_too_often_today_waits_and_the_others_do_not_wait_for_it() -> None:
    past = {"north": [NOW - 23 * HOUR, NOW - HOUR]}
    north = waiting("north", 9, due=NOW - DAY)
    found = decide(NOW, [north], POLICY, False, past)
    assert isinstance(found, Wait)
    assert found.until == NOW + HOUR
    both = decide(NOW, [north, waiting("south", 5)], POLICY, False, past)
    assert both == Start(("south",), "the batch is full")


def test_revocations_of_a_site_that_may_not_start_do_not_fill_the_batch() -> None:
    past = {"north": [NOW - 2 * HOUR, NOW - HOUR]}
    assert isinstance(decide(NOW, [waiting("north", 9), waiting("south", 1)], POLICY, False, past), Wait)


def test_a_site_of_which_no_date_is_known_does_not_wait() -> None:
    assert isinstance(decide(NOW, [SiteState("north", True, 1, None, None)], POLICY, False, {}), Start)


@settings(deadline=None)
@given(moments, federations, policies, pasts)
def test_nothing_starts_while_a_campaign_runs(
    now: datetime, sites: list[SiteState], policy: PolicyConfig, past: dict[str, list[datetime]]
) -> None:
    assert isinstance(decide(now, sites, policy, True, past), Wait)


@settings(deadline=None)
@given(moments, federations, policies, pasts)
def test_a_campaign_starts_for_active_waiting_sites_within_their_daily_limit_only(
    now: datetime, sites: list[SiteState], policy: PolicyConfig, past: dict[str, list[datetime]]
) -> None:
    found = decide(now, sites, policy, False, past)
    if isinstance(found, Start):
        assert policy.automatic
        assert found.sites
        allowed = {s.name for s in sites if s.active and s.pending and not used_up(past.get(s.name, []), now, policy)}
        assert set(found.sites) == allowed


@settings(deadline=None)
@given(moments, federations, policies, pasts)
def test_whatever_is_due_within_the_lead_starts_unless_its_site_had_its_campaigns_of_the_day(
    now: datetime, sites: list[SiteState], policy: PolicyConfig, past: dict[str, list[datetime]]
) -> None:
    lead = timedelta(hours=policy.lead_hours)
    found = decide(now, sites, policy, False, past)

    for site in sites:
        urgent = site.first_due is not None and now >= site.first_due - lead
        free = site.active and site.pending > 0 and not used_up(past.get(site.name, []), now, policy)
        if policy.automatic and urgent and free:
            assert isinstance(found, Start)
            assert site.name in found.sites


@settings(deadline=None)
@given(moments, federations, policies, pasts)
def test_waiting_until_the_moment_it_names_is_enough_and_no_earlier_one_is(
    now: datetime, sites: list[SiteState], policy: PolicyConfig, past: dict[str, list[datetime]]
) -> None:
    past = {name: [at for at in starts if at <= now] for name, starts in past.items()}
    found = decide(now, sites, policy, False, past)
    if isinstance(found, Start) or found.until is None:
        return
    assert found.until > now
    assert isinstance(decide(found.until - timedelta(microseconds=1), sites, policy, False, past), Wait)
    # Either a campaign starts then, or a site becomes free whose revocations join the batch.
    then = decide(found.until, sites, policy, False, past)
    assert isinstance(then, Start) or then.until is None or then.until > found.until


def test_a_retraining_that_patients_wait_for_is_not_begun_again_without_end_when_it_fails() -> None:
    late = replace(waiting("north", since=NOW - 40 * DAY, due=NOW - DAY), is_batched=True)
    assert isinstance(decide(NOW, [late], POLICY, False, {}), Start)
    failed = replace(late, failures=1, free_at=NOW + HOUR)
    assert decide(NOW, [failed], POLICY, False, {}) == Wait(
        "patients wait for the retraining of 2026-03-01 13:00 UTC", NOW + HOUR
    )
    assert isinstance(decide(NOW + HOUR, [failed], POLICY, False, {}), Start)
    often = {"north": [NOW - HOUR] * POLICY.campaigns_per_day}
    assert decide(NOW, [late], POLICY, False, often).until == NOW + 23 * HOUR  # type: ignore[union-attr]
    assert "needs a person" in decide(NOW, [replace(late, failures=POLICY.max_failures)], POLICY, False, {}).reason


def test_a_hospital_that_announces_for_ever_and_does_not_unlearn_is_not_retrained_around_for_ever() -> None:
    stuck = replace(waiting("north", due=NOW - DAY), aside_until=NOW + DAY)
    assert isinstance(overdue(NOW, [stuck], POLICY, {}), Start)
    # What it announces was retrained away since.
    assert overdue(NOW, [replace(stuck, retrainings=1, is_answered=True)], POLICY, {}) is None
    # It announces anew each time.
    assert isinstance(overdue(NOW, [replace(stuck, retrainings=1)], POLICY, {}), Start)
    assert overdue(NOW, [replace(stuck, retrainings=POLICY.max_failures)], POLICY, {}) is None
