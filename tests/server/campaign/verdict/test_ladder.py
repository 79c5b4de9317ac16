"""Down the ladder: what carries a campaign, what does not and why, retrainings in batches, renewal."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from campaign_world import MakeWorld
from outcome_grounds import GROUNDS, QUALIFIED
from pydantic import ValidationError

from common.evidence.outcomes.grounds import Grounds, Outcome, QualificationGrounds, Rung
from common.learning.config import DecisionConfig
from common.platform.sql import transaction
from server.campaign.policy import SiteState, Start, Wait, decide
from server.campaign.verdict.acceptance import outcome_of
from server.campaign.verdict.judging import Verdict
from server.campaign.verdict.ladder import LEFT_OUT, Ladder
from server.campaign.waiting import renewal, site_states
from server.registry.model_card import model_card
from server.rounds.unlearning.base import Collected
from server.settings import PolicyConfig, Terms

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ONE = Collected(
    forgetting=("north",),
    retain_studies={"north": 50},
    patients=1,
    pending={"north": 1},
    registered={"north": {"train": 50, "never_seen_audit": 60}},
)
UNDECIDED = Verdict(outcome="inconclusive", reasons=("too wide",), vetoes=(), grounds=Grounds("own", 1, 60))


class Qualified:
    """A qualification that covers whatever is asked."""

    def __init__(self, found: QualificationGrounds | str = QUALIFIED, uncovered: str = "") -> None:
        self.found = found
        self.why = uncovered
        self.asked: list[int] = []

    def uncovered(self, _parent: str, collected: Collected, _terms: Terms) -> str:
        self.asked.append(collected.patients)
        return self.why

    def grounds(self, *_: object) -> QualificationGrounds | str:
        return self.found


def ladder(*rungs: Rung) -> Ladder:
    undecided: Literal["retrain", "wait"] = "retrain" if "retrain" in rungs or not rungs else "wait"
    policy = PolicyConfig(ladder=rungs, undecided=undecided) if rungs else PolicyConfig()
    return Ladder(policy, DecisionConfig())


def test_the_own_audit_carries_where_it_can_and_a_qualification_is_not_asked() -> None:
    accepted = Verdict(outcome="accepted", reasons=("within",), vetoes=(), grounds=Grounds("own", 160, 170))
    assert ladder().climb(accepted, pytest.fail, NOW) == accepted


def test_one_patient_is_carried_by_a_qualification_and_the_reason_why_not_by_the_audit_is_kept() -> None:
    verdict = ladder().climb(UNDECIDED, lambda: QUALIFIED, NOW)
    assert verdict.outcome == "accepted_qualified"
    assert verdict.publishes
    assert verdict.grounds is not None
    assert verdict.grounds.qualification == QUALIFIED
    assert [(fall.rung, fall.reason) for fall in verdict.grounds.descents] == [("own", "too wide")]


@pytest.mark.parametrize("outcome", ["rejected", "accepted", "inconclusive"])
def test_no_qualification_outweighs_evidence_against_the_candidate(outcome: Outcome) -> None:
    vetoed = UNDECIDED.model_copy(update={"outcome": outcome, "vetoes": ("south: worse",)})
    rejected = UNDECIDED.model_copy(update={"outcome": "rejected"})
    for verdict in (vetoed, rejected):
        assert ladder().climb(verdict, pytest.fail, NOW) == verdict
        assert not verdict.publishes


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ("the campaign does not conform", "the campaign does not conform"),
        (replace(QUALIFIED, conformity="0.02"), "does not conform to its rehearsals (p = 0.02)"),
        (replace(QUALIFIED, valid_until="2026-01-01T00:00:00Z"), "the qualification ended"),
        (replace(QUALIFIED, criteria=QUALIFIED.criteria[1:]), "Q1"),
    ],
)
def test_what_does_not_conform_or_is_no_longer_valid_goes_down_with_its_reason(
    found: QualificationGrounds | str, reason: str
) -> None:
    verdict = ladder().climb(UNDECIDED, lambda: found, NOW)
    assert verdict.outcome == "inconclusive"
    assert reason in verdict.text
    assert verdict.grounds is not None
    assert [fall.rung for fall in verdict.grounds.descents] == ["own", "qualified"]


def test_a_rung_that_the_policy_leaves_out_carries_nothing() -> None:
    accepted = Verdict(outcome="accepted", reasons=("within",), vetoes=(), grounds=Grounds("own", 4, 170))
    assert ladder("qualified", "retrain").climb(accepted, lambda: QUALIFIED, NOW).outcome == "accepted_qualified"
    only_own = ladder("own", "retrain")
    assert LEFT_OUT in only_own.climb(UNDECIDED, pytest.fail, NOW).text
    assert [fall.reason for fall in only_own.out_of_reach(ONE, pytest.fail)][1] == LEFT_OUT


def test_a_campaign_that_no_rung_could_carry_is_known_before_anything_is_unlearned() -> None:
    own, qualified = ladder().out_of_reach(ONE, lambda: "it was for two to five patients")
    assert own.reason.startswith("too few patients")
    assert qualified.reason == "it was for two to five patients"
    assert ladder().out_of_reach(ONE, str) == ()


@pytest.mark.parametrize(
    ("rungs", "undecided"),
    [
        (("retrain", "own"), "retrain"),
        (("own", "own"), "wait"),
        (("exact",), "wait"),
        ((), "wait"),
        (("own",), "retrain"),
    ],
)
def test_a_ladder_is_in_order_and_agrees_with_the_policy(rungs: tuple[str, ...], undecided: str) -> None:
    with pytest.raises(ValidationError, match="ladder"):
        PolicyConfig.model_validate({"ladder": rungs, "undecided": undecided})


def test_one_patient_is_forgotten_by_forget_mi_and_accepted_by_qualification(world: MakeWorld) -> None:
    here = world().trained()
    here.revoke()
    qualifier = Qualified()
    here.carrier = replace(here.carrier, qualifier=qualifier)
    number = here.plan(decision=DecisionConfig(bootstrap=50, utility_tolerance=1.0))
    assert here.carry(number) == "published"
    assert qualifier.asked == [1]
    version = here.active()
    assert version.parent == "v0001", "unlearned, not retrained"
    assert version.manifest.provenance.outcome == "accepted_qualified"
    text = model_card(version.manifest, here.carrier.card, (version.name,))
    assert "Accepted by qualification (`accepted_qualified`)" in text
    assert "not by own evidence: " in text
    ended = outcome_of(here.store, number)
    assert ended is not None
    assert ended.outcome == "accepted_qualified"
    ((_, history),) = here.histories("north")
    assert history[-1].state == "unlearned"


def test_a_retrained_model_says_why_the_rungs_above_did_not_carry_it(world: MakeWorld) -> None:
    here = world().trained()
    here.revoke()
    here.carrier = replace(here.carrier, qualifier=Qualified(uncovered="it ended on 2026-04-01"))
    number = here.plan()
    assert here.carry(number) == "published"
    grounds = here.active().manifest.provenance.grounds
    assert grounds is not None
    assert grounds.rung == "retrain"
    assert [fall.rung for fall in grounds.descents] == ["own", "qualified"]
    assert grounds.descents[1].reason == "it ended on 2026-04-01"
    assert "not by qualification: it ended on 2026-04-01" in here.store.get(number).reason


def test_retrainings_wait_for_the_deadline_and_then_forget_all_who_wait(world: MakeWorld) -> None:
    here = world().trained()
    policy = PolicyConfig(retrain_batch="deadline", lead_hours=24)
    here.revoke("north")
    here.announce("north", 1, NOW + 30 * DAY)
    number = here.plan(due=NOW + 30 * DAY, sites=["north"], retrain_batch="deadline", lead_hours=24)
    assert here.carry(number) == "inconclusive"
    assert "these patients wait for the retraining of 2026-05-30" in here.store.get(number).reason
    assert here.sites["north"].forget
    ended = outcome_of(here.store, number)
    assert ended is not None
    assert ended.grounds is not None
    assert [fall.rung for fall in ended.grounds.descents] == ["own", "qualified"]

    here.revoke("south")
    here.announce("south", 1, NOW + 40 * DAY)
    with transaction(here.engine) as session:
        states = site_states(session, policy)
    by_name = {state.name: state for state in states}
    assert (by_name["north"].is_batched, by_name["north"].failures, by_name["south"].is_batched) == (True, 0, False)
    now = NOW + 29 * DAY
    assert decide(now, states, policy, False, {}) == Start(
        ("north", "south"), "the retraining that patients wait for is due", "retraining"
    )

    here.clock.now = now
    retraining = here.plan("retraining", sites=["north", "south"])
    assert here.carry(retraining) == "published"
    assert not here.sites["north"].forget
    assert not here.sites["south"].forget
    here.announce("north", 0)
    with transaction(here.engine) as session:
        assert not any(state.is_batched for state in site_states(session, policy))
    here.clock.now = NOW


def a_site(name: str, due: datetime | None, **more: object) -> SiteState:
    return SiteState(name, True, 1, NOW, due, **more)  # type: ignore[arg-type]


def test_a_site_whose_patients_wait_for_the_retraining_has_no_campaign_before_and_holds_up_no_other() -> None:
    policy = PolicyConfig(retrain_batch="deadline", lead_hours=24, min_batch=1)
    north = a_site("north", NOW + 10 * DAY, is_batched=True)
    alone = decide(NOW, [north], policy, False, {})
    assert isinstance(alone, Wait)
    assert alone.until == NOW + 9 * DAY
    assert decide(NOW, [north, a_site("south", NOW + 20 * DAY)], policy, False, {}) == Start(
        ("south",), "the batch is full"
    )
    assert isinstance(decide(NOW, [north], PolicyConfig(lead_hours=24), False, {}), Start), "batches were switched off"


def test_a_renewal_retrains_at_the_next_revocation_and_not_before() -> None:
    assert isinstance(decide(NOW, [], PolicyConfig(), False, {}, renewal="renewal"), Wait)
    found = decide(
        NOW, [a_site("north", None), a_site("south", None)], PolicyConfig(), False, {}, renewal="renewal: 25"
    )
    assert found == Start(("north", "south"), "renewal: 25", "retraining")


def test_a_renewal_counts_campaigns_or_patients_since_the_last_training(world: MakeWorld) -> None:
    here = world().trained()
    here.revoke()
    here.carrier = replace(here.carrier, qualifier=Qualified())
    assert here.carry(here.plan(decision=DecisionConfig(bootstrap=50, utility_tolerance=1.0))) == "published"

    def due(after: float) -> str:
        with transaction(here.engine) as session:
            return renewal(session, PolicyConfig(renew_after=after))

    assert due(0) == ""
    assert due(2) == ""
    assert due(1) == "renewal: 1 campaigns since the last training"
    assert due(0.9) == ""
    assert "of" in due(0.01)
    assert GROUNDS["accepted_qualified"].rung == "qualified"
