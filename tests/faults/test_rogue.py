"""A rogue hospital with good keys plays each finding of an attacker's trial on whole campaigns, in this process.

Each says what came of it, who is named, and that the other hospitals' patients were forgotten before their date.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, RecordDict
from rogue.mutations import MISSING, put, with_body
from rogue.outcomes import violations
from rogue.random_rogue import scored, study
from rogue.world import DUE, SITES, SIZES, Silent, World
from sqlalchemy import select

from common.learning.records import Subset
from common.platform.sql import transaction
from common.protocol.messages import EVALUATE, STATUS, TRAIN, UNLEARN, ErrorReply, UnlearnReply
from common.protocol.wire import pack, unpack
from server.database import EventRow
from server.membership.conduct import conduct
from server.rounds.unlearning.base import Collected

Play = Callable[[str, RecordDict], RecordDict]
CI_RUNS = 25


@dataclass(frozen=True)
class Ended:
    """How a play ended."""

    states: tuple[str, ...]
    named: frozenset[str]
    """Sites of events that say who sent something bad, or was set aside."""
    details: tuple[str, ...]
    forgotten_in_time: frozenset[str]
    fall: float


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("rogues"))


def played(world: World, folder: Path, rogue: str, play: Play, pending: dict[str, int] | None = None) -> Ended:
    run = world.played(folder, rogue, play)
    if pending is not None:
        run.pending.left = dict(pending)
    run.run()
    with run.house() as house:
        first = scored(world, house.registry.load("v0001")) if house.registry.get("v0001").state == "active" else None
        active = house.registry.active()
        assert active is not None
        last = scored(world, house.registry.load(active.name))
        with transaction(house.engine) as session:
            events = list(session.scalars(select(EventRow)).all())
        states = tuple(row.state for row in house.store.all() if row.kind == "unlearning")

    named = {e.site for e in events if e.site and e.kind in {"quarantined", "suspended", "set-aside", "refused"}}
    times = run.pending.forgotten

    return Ended(
        states=states,
        named=frozenset(named),
        details=tuple(e.detail for e in events),
        forgotten_in_time=frozenset(name for name, at in times.items() if at <= DUE),
        fall=0.0 if first is None else first[0] - last[0],
    )


def claiming(kind: str, path: tuple[str | int, ...], value: object) -> Play:
    """The same lie in every reply of a kind."""

    def play(asked: str, reply: RecordDict) -> RecordDict:
        body = reply["body"]
        assert isinstance(body, ConfigRecord)
        if asked != kind or (path[0] == "audit" and '"audit":null' in str(body["json"])):
            return reply
        return with_body(reply, lambda value_before: put(value_before, path, value))

    return play


@pytest.mark.parametrize("count", [10**12, -5, 10**9])
def test_no_hospital_sets_its_own_weight(world: World, tmp_path: Path, count: int) -> None:
    ended = played(world, tmp_path / "play", "south", claiming(STATUS, ("retain_studies",), count))
    assert ended.forgotten_in_time == {"north", "west"}
    assert ended.states[-1] == "published"
    if count != 10**9:
        assert "south" in ended.named


def test_two_hospitals_with_revocations_are_one_campaign_that_ends(world: World, tmp_path: Path) -> None:
    ended = played(world, tmp_path / "play", "east", lambda _, reply: reply)
    assert ended.states == ("published",)
    assert ended.named == set()
    assert ended.forgotten_in_time == {"north", "west"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("audit", "groups", "test"), MISSING),
        (("audit", "membership", "fused", "variance"), -1.0),
        (("audit", "groups", "test", "fused", "confusion"), [[1]]),
        (("audit", "groups", "test", "fused", "auc", 0, "pairs"), 10**400),
    ],
)
def test_one_malformed_audit_ends_nobodys_campaign_and_is_put_down_to_its_sender(
    world: World, tmp_path: Path, path: tuple[str | int, ...], value: object
) -> None:
    ended = played(world, tmp_path / "play", "south", claiming(EVALUATE, path, value))
    assert "south" in ended.named
    assert not ended.named & {"north", "east", "west"}
    assert ended.forgotten_in_time == {"north", "west"}


def test_the_parent_returned_bit_for_bit_is_no_unlearning(world: World, tmp_path: Path) -> None:
    def play(kind: str, reply: RecordDict) -> RecordDict:
        return pack(unpack(reply, UnlearnReply), {}) if kind == UNLEARN else reply

    ended = played(world, tmp_path / "play", "west", play)
    assert ended.named == {"west"}
    assert "north" in ended.forgotten_in_time


def test_a_bystander_that_says_it_forgot_ten_million_is_refused_by_name(world: World, tmp_path: Path) -> None:
    lie = claiming(EVALUATE, ("audit", "membership", "fused", "forget_patients"), 10**7)
    ended = played(world, tmp_path / "play", "south", lie)
    assert ended.named == {"south"}
    assert ended.forgotten_in_time == {"north", "west"}


@pytest.mark.parametrize("how", ["refuses", "silent"])
def test_a_hospital_that_announces_and_will_not_unlearn_holds_up_nobody(world: World, tmp_path: Path, how: str) -> None:
    def play(kind: str, reply: RecordDict) -> RecordDict:
        if kind != UNLEARN:
            return reply
        if how == "silent":
            raise Silent
        return pack(ErrorReply(code="refused"))

    ended = played(world, tmp_path / "play", "west", play)
    assert "north" in ended.forgotten_in_time
    assert len(ended.states) < 10
    assert any("west" in detail for detail in ended.details)


def test_figures_of_a_hospital_that_was_set_aside_weigh_on_nobodys_result(world: World, tmp_path: Path) -> None:
    audits = iter(range(100))

    def ruined(body: dict[str, Any]) -> dict[str, Any]:
        if not body["audit"] or next(audits) == 0:
            return body
        right, wrong = body["audit"]["groups"]["test"]["fused"]["confusion"]
        body = put(body, ("audit", "groups", "test", "fused", "confusion"), [right[::-1], wrong[::-1]])
        for label in (0, 1):
            body = put(body, ("audit", "groups", "test", "fused", "auc", label, "wins"), 0.0)
        return body

    def play(kind: str, reply: RecordDict) -> RecordDict:
        if kind == UNLEARN:
            raise Silent
        return with_body(reply, ruined) if kind == EVALUATE else reply

    run = world.played(tmp_path / "play", "west", play)
    run.run(days=2.0)
    with run.house() as house:
        first = next(row for row in house.store.all() if row.kind == "unlearning")
        assert first.state == "published"
        assert "west" not in first.reason
        assert [e.site for e in house.store.events(first.number) if e.kind == "set-aside"] == ["west"]
    assert next(audits) > 1
    assert "north" in run.pending.forgotten


def test_text_of_its_own_reaches_nobodys_terminal(world: World, tmp_path: Path) -> None:
    lie = claiming(EVALUATE, ("audit", "membership", "fused", "missing"), {"svc": "\x1b[2J\u202eall is well\n"})
    ended = played(world, tmp_path / "play", "south", lie)
    assert ended.named == {"south"}
    assert all(detail.isprintable() for detail in ended.details)


def test_one_hospitals_validation_loss_does_not_choose_the_first_weights_of_a_training(
    world: World, tmp_path: Path
) -> None:
    rounds = iter(range(100))

    def play(kind: str, reply: RecordDict) -> RecordDict:
        def lie(body: dict[str, Any]) -> dict[str, Any]:
            of_round = "received" if kind == TRAIN else "selection"
            if not body.get(of_round):
                return body
            loss = 0.0 if next(rounds) == 0 else 10_000.0
            for branch in ("image", "text", "fused"):
                body = put(body, (of_round, "validation", branch, "loss_sum"), loss)
            return body

        return with_body(reply, lie) if kind in {TRAIN, EVALUATE} else reply

    run = world.played(tmp_path / "play", "south", play)
    run.pending.left = {}
    with run.house() as house:
        terms = house.terms
        lessons = terms.experiment.train.model_copy(update={"lr": 1e-2, "local_epochs": 4})
        terms = terms.model_copy(update={"experiment": terms.experiment.model_copy(update={"train": lessons})})
        house.store.plan("training", terms.model_dump(mode="json"), parent=None, due=None, reason="again")
    run.run(days=1.0)

    with run.house() as house:
        row = house.store.all()[-1]
        assert (row.state, row.result) == ("published", "v0002")
        assert house.registry.get("v0002").manifest.provenance.round > 0
        with transaction(house.engine) as session:
            assert conduct(session, run.clock()) == {}
    assert next(rounds) > 2


def test_a_million_patients_to_forget_count_as_the_studies_that_are_registered(world: World, tmp_path: Path) -> None:
    def play(kind: str, reply: RecordDict) -> RecordDict:
        if kind != STATUS:
            return reply
        million = {"pending": 10**6, "first_due": DUE.isoformat()}
        return with_body(reply, lambda body: {**body, **million, "registered": {**body["registered"], "forget": 10**6}})

    run = world.played(tmp_path / "play", "west", play)
    run.run()
    with run.house() as house:
        collected = house.store.journal_body(2, "collect", Collected)
    assert collected is not None
    assert collected.pending == {"north": 2, "west": SIZES[Subset.TRAIN]}
    assert "north" in run.pending.forgotten


def test_a_network_that_is_down_for_hours_is_no_series_of_crashes(world: World, tmp_path: Path) -> None:
    run = world.played(tmp_path / "play", "south", lambda _, reply: reply)
    run.away = 5
    run.run()
    with run.house() as house:
        events = [event for event in house.store.events(2) if event.kind == "waiting"]
        assert [event.detail for event in events] == ["0 of 4 sites are online, 1 needed"] * 5
        gaps = [later.at - earlier.at for earlier, later in pairwise(events)]
        assert gaps == [timedelta(minutes=minutes) for minutes in (10, 20, 40, 80)]
        assert house.store.get(2).state == "published"


def test_random_rogues_break_no_campaign(world: World) -> None:
    outcomes = study([world], range(10_000, 10_000 + CI_RUNS))
    assert violations(outcomes) == []
    assert len({outcome.rogue for outcome in outcomes}) == len(SITES)
