"""Campaigns that cannot go as planned: each ends where people see it, and holds up nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import pytest
from campaign_world import LENIENT, NOW, MakeWorld, World
from flwr.app import RecordDict
from sqlalchemy import select
from torch import Tensor

from client.cohort.site import Site
from common.errors import InputError, RefusedError
from common.learning.config import Precision
from common.learning.model.image_text import ImageTextModel
from common.platform.sql import transaction
from common.protocol.messages import UnlearnReply, UnlearnRequest
from server.attestation.attestation import begin, find
from server.attestation.overruling import overruled
from server.campaign.policy import SiteState, Start, Wait, decide, overdue
from server.campaign.running import training
from server.campaign.running.tries import failed_before
from server.campaign.verdict.judging import Verdict
from server.campaign.waiting import earliest_due, report_escalated, site_states
from server.database import EventRow
from server.rounds.federation import Federation
from server.rounds.unlearning.base import Collected
from server.settings import PolicyConfig


@contextmanager
def refusing(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[None]:
    """These hospitals answer everything but `train.unlearn`."""
    unlearn = Site.unlearn

    def refuse(
        site: Site,
        state: Mapping[str, Tensor],
        request: UnlearnRequest,
        *,
        campaign: int = 0,
        step: str = "unlearn",
        precision: Precision = "fp32",
    ) -> tuple[ImageTextModel, UnlearnReply]:
        if site.name in names:
            raise RefusedError("not here")
        return unlearn(site, state, request, campaign=campaign, step=step, precision=precision)

    with monkeypatch.context() as patched:
        patched.setattr(Site, "unlearn", refuse)
        yield


@contextmanager
def away(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[None]:
    """These hospitals answer nothing."""
    exchange = Federation.exchange

    def without(
        self: Federation,
        kind: str,
        requests: Mapping[str, RecordDict],
        deadline: float | None = None,
        whole: Callable[[], RecordDict] | None = None,
    ) -> Iterator[tuple[str, RecordDict]]:
        left = {name: records for name, records in requests.items() if name not in names}
        return exchange(self, kind, left, deadline, whole)

    with monkeypatch.context() as patched:
        patched.setattr(Federation, "exchange", without)
        yield


def states_of(here: World, policy: PolicyConfig | None = None) -> dict[str, SiteState]:
    with transaction(here.engine) as session:
        return {site.name: site for site in site_states(session, policy or PolicyConfig())}


def test_two_hospitals_with_revocations_forget_in_one_campaign_by_default(world: MakeWorld) -> None:
    here = world().trained()
    here.revoke("north", 2)
    here.revoke("south", 2)
    number = here.plan(decision=LENIENT, sites=["north", "south"])
    assert here.carry(number) == "published"
    collected = here.store.journal_body(number, "collect", Collected)
    assert collected is not None
    assert (collected.forgetting, collected.aggregation) == (("north", "south"), "relay")
    assert ("aggregation", None) in here.kinds(number)


def test_a_hospital_that_the_policy_did_not_choose_waits_for_the_next_campaign(world: MakeWorld) -> None:
    here = world().trained()
    here.revoke("north", 2)
    here.revoke("south", 2)
    number = here.plan(decision=LENIENT, sites=["north"])
    assert here.carry(number) == "published"
    collected = here.store.journal_body(number, "collect", Collected)
    assert collected is not None
    assert (collected.forgetting, collected.aggregation) == (("north",), "replace")


def test_a_chosen_hospital_without_revocations_is_dropped_with_a_note(world: MakeWorld) -> None:
    here = world().trained()
    here.revoke("north", 2)
    number = here.plan(decision=LENIENT, sites=["north", "south"])
    assert here.carry(number) == "published"
    assert ("dropped", "south") in here.kinds(number)


def test_a_campaign_for_whom_nobody_waits_any_more_ends_and_counts_against_the_announcer(world: MakeWorld) -> None:
    here = world().trained()
    here.announce("north", 1)
    number = here.plan(sites=["north"])
    assert here.carry(number) == "failed"
    assert "no revocation waits any more at north" in here.store.get(number).reason
    assert (states_of(here)["north"].failures, states_of(here)["south"].failures) == (1, 0)


def test_settings_that_do_not_fit_end_a_campaign_and_it_is_not_planned_again_for_ever(world: MakeWorld) -> None:
    here = world().trained()
    here.revoke("north", 2)
    policy = PolicyConfig()
    planned = 0
    waits = []

    for _ in range(40):
        sites = list(states_of(here, policy).values())
        found = decide(here.clock.now, sites, policy, False, {})

        if isinstance(found, Wait):
            if found.until is None:
                break
            waits.append(found.until - here.clock.now)
            here.clock.now = found.until
            continue

        planned += 1
        number = here.plan(method="not", sites=found.sites)
        assert here.carry(number) == "failed"

    assert planned == policy.max_failures
    assert waits == [timedelta(minutes=10 * 2**n) for n in range(policy.max_failures - 1)]
    assert "needs a person" in found.reason
    with transaction(here.engine) as session:
        for _ in range(2):
            report_escalated(session, site_states(session, policy), policy, here.clock.now)

    with transaction(here.engine) as session:
        escalated = session.scalars(select(EventRow).where(EventRow.kind == "escalated")).all()
    assert [event.site for event in escalated] == ["north"]
    assert "simulations only" in escalated[0].detail
    here.clock.now = NOW


def test_a_campaign_that_waits_for_somebody_waits_longer_each_time_and_then_ends(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world().trained()
    here.revoke("north", 2)
    number = here.plan(decision=LENIENT, max_tries=3, unlearn_tries=5)
    gaps = []

    with away(monkeypatch, "north"):
        while here.store.open() is not None:
            here.carry(number)
            if here.store.open() is not None:
                retry_at = here.store.get(number).retry_at
                assert retry_at is not None
                gaps.append(retry_at - here.clock.now)

    assert gaps == [timedelta(minutes=10), timedelta(minutes=20)]
    row = here.store.get(number)
    assert row.state == "failed"
    assert "given up after 3 tries" in row.reason


def test_a_refuser_is_set_aside_and_suspended_and_the_other_hospital_is_forgotten_in_time(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world().trained()
    here.revoke("north", 2)
    here.revoke("south", 2)
    number = here.plan(decision=LENIENT, sites=["north", "south"])
    nodes = dict(here.federation.nodes)

    with refusing(monkeypatch, "north"):
        assert here.carry(number) == "unlearning"
        assert here.carry(number) == "unlearning"
        assert failed_before(here.store, number) == 2
        assert here.carry(number) == "published"

    here.federation.nodes = nodes
    assert {("set-aside", "north"), ("suspended", "north")} <= set(here.kinds(number))
    assert here.site("north").state == "suspended"
    with transaction(here.engine) as session:
        begin(session)
        standing = find(session, number)
        assert standing is not None
        assert standing.unanswered == ("south",)


def test_a_hospital_that_is_away_is_set_aside_and_not_suspended(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world().trained()
    here.revoke("north", 2)
    here.announce("north", 2)
    number = here.plan(decision=LENIENT, sites=["north"], unlearn_tries=1)
    unlearn = Site.unlearn
    with monkeypatch.context() as patched, away(monkeypatch, "north"):
        patched.setattr(Site, "unlearn", unlearn)
        assert here.carry(number) == "failed"

    assert here.site("north").state == "active"
    assert here.site("north").aside_until == NOW + timedelta(hours=24)
    assert states_of(here)["north"].free_at == NOW + timedelta(hours=24)


def test_somebody_elses_near_date_ends_the_waiting_for_a_refuser(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world().trained()
    here.revoke("north", 2)
    number = here.plan(decision=LENIENT, sites=["north"])
    nodes = dict(here.federation.nodes)

    with refusing(monkeypatch, "north"):
        assert here.carry(number) == "unlearning"
        # Announced after the plan, and due tomorrow.
        here.revoke("south", 2)
        here.announce("south", 2, due=NOW + timedelta(days=1))
        assert here.carry(number) == "published"

    here.federation.nodes = nodes
    assert "retrained" in here.store.get(number).reason
    # It refused twice, and three tries are what the policy allows.
    assert here.site("north").state == "active"
    assert here.site("north").aside_until is not None
    assert here.registry.get("v0001").state == "quarantined"


def test_a_hospital_is_suspended_for_its_own_refusals_and_not_for_tries_that_failed_otherwise(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world().trained()
    here.revoke("north", 2)
    here.revoke("south", 2)
    number = here.plan(decision=LENIENT, sites=["north", "south"])

    with away(monkeypatch, "north", "south"):
        here.carry(number)
        here.carry(number)

    assert failed_before(here.store, number) == 2
    nodes = dict(here.federation.nodes)
    with refusing(monkeypatch, "north"):
        here.carry(number)

    assert here.store.get(number).state == "unlearning"
    assert here.site("north").state == "active"
    assert ("refused", "north") in here.kinds(number)
    assert here.carry(number) == "published"
    here.federation.nodes = nodes


def test_patients_of_a_suspended_hospital_are_retrained_away_before_their_date_and_only_once(world: MakeWorld) -> None:
    policy = PolicyConfig()
    here = world().trained()
    here.announce("north", 2, due=NOW + timedelta(days=1))
    with transaction(here.engine) as session:
        session.get_one(type(here.site("north")), "north").state = "suspended"
    found = overdue(NOW, list(states_of(here).values()), policy, {})
    assert isinstance(found, Start)
    assert (found.kind, found.sites) == ("retraining", ("north",))
    assert overdue(NOW - timedelta(days=2), list(states_of(here).values()), policy, {}) is None
    nodes = dict(here.federation.nodes)
    here.federation.nodes = {"south": nodes["south"]}
    number = here.plan("retraining", sites=["north"])
    assert here.carry(number) == "published"
    here.federation.nodes = nodes
    assert here.registry.get("v0001").state == "quarantined"
    # The version in use has learned nothing from it.
    assert overdue(NOW, list(states_of(here).values()), policy, {}) is None


def test_an_announcement_that_was_retrained_away_starts_no_second_retraining(world: MakeWorld) -> None:
    policy = PolicyConfig()
    here = world().trained()
    here.announce("north", 2, due=NOW + timedelta(days=1))
    with transaction(here.engine) as session:
        session.get_one(type(here.site("north")), "north").aside_until = NOW + timedelta(days=7)

    found = overdue(here.clock.now, list(states_of(here).values()), policy, {})
    assert isinstance(found, Start)
    assert (found.kind, found.sites) == ("retraining", ("north",))
    assert here.carry(here.plan("retraining", sites=["north"])) == "published"
    # It trained on, and says as before that patients wait.
    state = states_of(here)["north"]
    assert (state.absent, state.is_answered, state.retrainings) == (False, True, 1)
    assert overdue(here.clock.now, [state], policy, {}) is None
    with transaction(here.engine) as session:
        assert earliest_due(session, policy) is None


def test_a_training_while_a_revocation_waits_is_a_retraining_in_every_respect(world: MakeWorld) -> None:
    here = world().trained()
    here.revoke("north")
    number = here.plan("training")
    assert here.carry(number) == "published"
    row = here.store.get(number)
    assert (row.kind, row.parent, row.result) == ("retraining", "v0001", "v0002")
    assert "retrained: revocations wait at north" in row.reason
    assert here.registry.get("v0001").state == "quarantined"
    with pytest.raises(RefusedError, match="not handed out"):
        here.registry.export("v0001", here.store.work / "export")
    assert not here.sites["north"].forget
    with transaction(here.engine) as session:
        begin(session)
        standing = find(session, number)
        assert standing is not None
        assert "north" in standing.unanswered


def test_a_training_while_nobody_waits_forgets_nobody_and_says_what_it_replaces(world: MakeWorld) -> None:
    here = world().trained()
    number = here.plan("training")
    assert here.carry(number) == "published"
    assert "trained: a new model in place of v0001" in here.store.get(number).reason
    assert here.registry.get("v0001").state == "superseded"
    with transaction(here.engine) as session:
        begin(session)
        assert find(session, number) is None


def test_a_worse_retrained_version_is_rejected_and_only_a_person_publishes_it(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world().trained()
    here.revoke("north")
    number = here.plan("training")
    worse = Verdict(outcome="rejected", reasons=("certainly worse",), vetoes=("south: worse",))
    monkeypatch.setattr(training, "judge_training", lambda *_: worse)
    assert here.carry(number) == "rejected"
    assert "certainly worse" in here.store.get(number).reason
    assert here.active().name == "v0001"
    assert [path.name for path in here.store.folder(number).iterdir()] == ["candidate.safetensors"]
    assert here.sites["north"].forget, "nobody is told to be forgotten"
    with pytest.raises(InputError):
        here.store.overrule(number, " ", 1)
    with pytest.raises(RefusedError, match="no candidate"):
        here.store.overrule(number, "too late", number + 1)
    here.store.overrule(number, "south's test set\nis broken", 1)
    assert here.carry(number) == "published"
    assert "published by a person: south's test set is broken" in here.store.get(number).reason
    assert here.registry.get("v0001").state == "quarantined"
    assert ("overruled", None) in here.kinds(number)
    with transaction(here.engine) as session:
        against = overruled(session, number)
    assert against is not None
    assert against.findings == ("veto: south: worse", "rejected: certainly worse")
    assert "OVERRULED BY A PERSON" in against.text
    assert "south's test set is broken" in against.text
    assert not here.sites["north"].forget
    assert not here.store.folder(number).exists()


def test_a_rejected_candidate_is_deleted_after_its_time_or_when_another_version_came(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world().trained()
    number = here.plan("training")
    worse = Verdict(outcome="rejected", reasons=("certainly worse",), vetoes=())
    with monkeypatch.context() as patched:
        patched.setattr(training, "judge_training", lambda *_: worse)
        assert here.carry(number) == "rejected"

    here.store.drop_candidates(1, NOW - timedelta(days=30))
    assert here.store.folder(number).exists()
    here.store.drop_candidates(number + 1, NOW - timedelta(days=30))
    assert not here.store.folder(number).exists()
    with pytest.raises(RefusedError, match="no candidate"):
        here.store.overrule(number, "why not", 1)
