"""Campaigns from plan to end on real sites in this process, with a real database, cut short at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from itertools import pairwise

import pytest
from campaign_world import LENIENT, NOW, MakeWorld, World
from flwr.app import RecordDict

from common.errors import RefusedError
from common.learning.records import Subset
from common.protocol.messages import TRAIN
from server.campaign.campaign_rows import GivenUpError
from server.campaign.journal import DatabaseJournal
from server.rounds.federation import Federation
from server.rounds.states import WAYS, CampaignState

on_both = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


class Cut(BaseException):
    """A crash: nothing catches it."""


def states(world: World, number: int) -> list[CampaignState]:
    kinds = [e.detail.split(":")[0] for e in world.store.events(number) if e.kind == "state"]
    return [CampaignState(k) for k in kinds]


@on_both
def test_a_training_ends_in_a_version_that_every_step_of_the_record_names(world: MakeWorld) -> None:
    here = world().trained()
    version = here.active()
    assert version.name == "v0001"
    assert version.manifest.provenance.sites == ("north", "south")
    assert states(here, 1) == ["planned", "retraining", "published"]
    assert here.store.get(1).result == "v0001"
    assert not here.store.folder(1).exists()


@pytest.mark.parametrize(("missed", "sites"), [({1}, ("north", "south")), ({0, 1}, ("north",))])
def test_a_hospital_that_missed_some_rounds_is_in_the_model_and_one_that_missed_all_is_not(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch, missed: set[int], sites: tuple[str, ...]
) -> None:
    exchange = Federation.exchange
    rounds = iter(range(10))

    def without(
        self: Federation,
        kind: str,
        requests: Mapping[str, RecordDict],
        deadline: float | None = None,
        whole: Callable[[], RecordDict] | None = None,
    ) -> Iterator[tuple[str, RecordDict]]:
        left = dict(requests)
        if kind == TRAIN and next(rounds) in missed:
            del left["south"]
        return exchange(self, kind, left, deadline, whole)

    monkeypatch.setattr(Federation, "exchange", without)
    here = world().trained()
    assert here.active().manifest.provenance.sites == sites


def test_a_campaign_whose_method_is_retraining_trains_anew_at_once(world: MakeWorld) -> None:
    here = world().trained()
    here.revoke()
    number = here.plan(method="retrain")
    assert here.carry(number) == "published"
    assert states(here, number) == ["planned", "retraining", "published"]
    assert here.store.get(number).result == "v0002"


@pytest.mark.parametrize(("waiting", "left"), [(2, 0), (3, 1)])
def test_closed_revocations_wait_no_more_before_the_hospital_announces_it(
    world: MakeWorld, waiting: int, left: int
) -> None:
    here = world().trained()
    here.revoke(count=2)
    here.announce("north", waiting)
    assert here.carry(here.plan(method="retrain")) == "published"
    site = here.site("north")
    assert site.pending == left
    assert (site.announced is None) == (not left)


def test_a_hospital_that_leaves_with_all_its_patients_is_trained_around(world: MakeWorld) -> None:
    here = world().trained()
    north = here.sites["north"]
    north.revoke(north.patients(Subset.TRAIN))
    number = here.plan()
    assert here.carry(number) == "published"
    assert states(here, number) == ["planned", "collecting", "retraining", "published"]
    assert "nobody is left to retain at north" in here.store.get(number).reason
    assert here.active().manifest.provenance.sites == ("south",)
    assert here.registry.get("v0001").state == "quarantined"
    assert not north.forget


@pytest.mark.parametrize("method", ["fed_eraser", "not"])
def test_a_method_in_which_no_hospital_unlearns_is_for_simulations(world: MakeWorld, method: str) -> None:
    here = world().trained()
    here.revoke()
    number = here.plan(method=method)
    assert here.carry(number) == "failed"
    assert "simulations only" in here.store.get(number).reason


@on_both
def test_one_patient_is_too_few_to_decide_and_is_retrained_at_once_and_told_why(world: MakeWorld) -> None:
    here = world().trained()
    here.revoke()
    number = here.plan()
    assert here.carry(number) == "published"
    versions = {v.name: v for v in here.registry.versions()}
    assert [versions[n].state for n in ("v0001", "v0002")] == ["quarantined", "active"]
    assert versions["v0002"].parent is None
    way = states(here, number)
    assert way == [
        "planned", "collecting", "retraining", "published",
    ]  # fmt: skip
    assert all(b in WAYS[a] for a, b in pairwise(way))
    why = "inconclusive, policy retrain: too few patients to measure (1 against 2 never-seen ones"
    assert why in here.store.get(number).reason
    assert not here.store.folder(number).exists()
    ((_, history),) = here.histories("north")
    assert history[-1].state == "retrained"
    assert why in history[-1].reason


def test_a_decided_campaign_goes_through_every_state(world: MakeWorld) -> None:
    here = world().trained()
    here.revoke(count=2)
    number = here.plan(decision=LENIENT)
    assert here.carry(number) == "published"
    assert states(here, number) == [
        "planned", "collecting", "unlearning", "aggregating", "retaining", "evaluating", "deciding", "published",
    ]  # fmt: skip


@pytest.mark.parametrize(("policy", "active"), [("wait", "v0001"), ("withdraw", None)])
def test_the_policy_chosen_beforehand_is_what_follows_an_undecided_campaign(
    world: MakeWorld, policy: str, active: str | None
) -> None:
    here = world().trained()
    here.revoke()
    number = here.plan(undecided=policy)
    assert here.carry(number) == "inconclusive"
    found = here.registry.active()
    assert (found.name if found else None) == active
    assert here.store.open() is None


@pytest.mark.parametrize(
    ("state", "policy", "end"),
    [
        (CampaignState.RETRAINING, "retrain", "published"),
        (CampaignState.INCONCLUSIVE, "withdraw", "inconclusive"),
    ],
)
def test_a_policy_that_was_cut_short_is_carried_out_and_says_why(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch, state: CampaignState, policy: str, end: str
) -> None:
    here = world().trained()
    here.revoke()
    number = here.plan(undecided=policy)
    enter = DatabaseJournal.enter

    def cut(journal: DatabaseJournal, wanted: CampaignState, reason: str = "") -> None:
        # Before the end of a campaign, and straight after a phase has begun.
        if wanted == state and state.ended:
            raise Cut
        enter(journal, wanted, reason)
        if wanted == state:
            raise Cut

    with monkeypatch.context() as patched:
        patched.setattr(DatabaseJournal, "enter", cut)
        with pytest.raises(Cut):
            here.carry(number)

    assert here.carry(number) == end
    assert f"inconclusive, policy {policy}" in here.store.get(number).reason


def test_a_run_that_was_given_up_writes_no_more(world: MakeWorld) -> None:
    here = world().trained()
    here.revoke()
    number = here.plan()
    old = here.store.take_up(number)
    here.store.take_up(number)
    with pytest.raises(GivenUpError, match="attempt 1 may write no more"):
        here.carrier.carry_on(number, old)
    assert states(here, number) == ["planned"]


@on_both
def test_two_campaigns_never_touch_the_same_model_at_once(world: MakeWorld) -> None:
    here = world().trained()
    first = here.plan()
    with pytest.raises(RefusedError, match=rf"campaign {first} \(planned\) is open"):
        here.plan()
    here.store.end(first, CampaignState.CANCELLED, "test")
    assert here.plan() > first


def test_a_cancelled_campaign_publishes_nothing(world: MakeWorld) -> None:
    here = world().trained()
    here.revoke()
    number = here.plan()
    attempt = here.store.take_up(number)
    here.store.end(number, CampaignState.CANCELLED, "sent by mistake")
    with pytest.raises(GivenUpError, match="is cancelled"):
        here.carrier.carry_on(number, attempt)
    assert here.active().name == "v0001"


def test_a_campaign_waits_visibly_for_its_forgetting_hospital_and_retrains_before_the_due_date(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world().trained()
    here.revoke(count=2)
    number = here.plan(due=NOW + timedelta(days=5), decision=LENIENT)
    nodes = dict(here.federation.nodes)
    # North says that somebody waits, and is gone when it is asked to unlearn.
    exchange = Federation.exchange

    def without_north(
        self: Federation,
        kind: str,
        requests: Mapping[str, RecordDict],
        deadline: float | None = None,
        whole: Callable[[], RecordDict] | None = None,
    ) -> Iterator[tuple[str, RecordDict]]:
        if kind == "train.unlearn":
            self.nodes = {"south": nodes["south"]}
        return exchange(self, kind, requests, deadline, whole)

    with monkeypatch.context() as patched:
        patched.setattr(Federation, "exchange", without_north)
        assert here.carry(number) == "unlearning"
        row = here.store.get(number)
        assert "no site answered train.unlearn" in row.reason
        assert row.retry_at == NOW + timedelta(minutes=10)
        here.clock.now = NOW + timedelta(days=3, hours=1)
        assert here.carry(number) == "published"

    assert "due date is near" in here.store.get(number).reason
    assert [e.kind for e in here.store.events(number)].count("escalated") == 1
    assert here.active().manifest.provenance.sites == ("south",)
    assert here.registry.get("v0001").state == "quarantined"


def test_lost_weights_between_two_steps_are_made_again(world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    here = world().trained()
    here.revoke(count=2)
    number = here.plan(decision=LENIENT)
    enter = DatabaseJournal.enter

    def cut_at_retaining(journal: DatabaseJournal, state: CampaignState, reason: str = "") -> None:
        enter(journal, state, reason)
        if state == "retaining":
            raise Cut

    with monkeypatch.context() as patched:
        patched.setattr(DatabaseJournal, "enter", cut_at_retaining)
        with pytest.raises(Cut):
            here.carry(number)

    path = here.store.folder(number) / "unlearn-north.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    assert here.carry(number) == "published"
    assert "redone" in [e.kind for e in here.store.events(number)]


def test_a_campaign_without_a_model_fails_with_the_remedy(world: MakeWorld) -> None:
    here = world()
    number = here.plan()
    assert here.carry(number) == "failed"
    assert "fedforget-server train" in here.store.get(number).reason


def test_where_one_hospital_writes_the_model_three_retention_rounds_follow_and_the_last_is_the_candidate(
    world: MakeWorld,
) -> None:
    here = world().trained()
    here.revoke(count=2)
    number = here.plan(decision=LENIENT, single_writer="retain")
    assert here.carry(number) == "published"
    steps = [row.step for row in here.store.phases(number)]
    assert [step for step in steps if step.startswith("retain:")] == ["retain:0", "retain:1", "retain:2"]
    assert here.active().manifest.provenance.round == 3
    events = [event.detail for event in here.store.events(number) if event.kind == "retention"]
    assert events == ["north alone writes the unlearned model: 3 retention rounds at least"]


def test_a_policy_that_lets_no_hospital_write_the_model_alone_retrains(world: MakeWorld) -> None:
    here = world().trained()
    here.revoke(count=2)
    number = here.plan(decision=LENIENT, single_writer="retrain")
    assert here.carry(number) == "published"
    assert "unlearning" not in states(here, number)
    assert "north alone would write the model" in here.store.get(number).reason
    assert here.active().parent is None
