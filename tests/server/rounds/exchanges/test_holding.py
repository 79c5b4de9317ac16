"""A hospital that answers just before each deadline holds up the others for its budget and no longer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.rounds.exchanges.holding import Holding

HOUR = 3600.0


@pytest.fixture
def slow(federation_of: Callable[..., Any]) -> Any:
    """Three sites, of which `north` answers five hours after it was asked; the federation and its clock."""
    federation, _ = federation_of(east=2, north=2, south=2)
    pull = type(federation.grid).pull_messages
    late = federation.nodes["north"]
    now = [0.0]
    asked_at = [0.0]

    class Slow(type(federation.grid)):  # type: ignore[misc]
        def push_messages(self, messages: Any) -> Any:
            asked_at[0] = now[0]
            return super().push_messages(messages)

        def pull_messages(self, message_ids: Any) -> Any:
            messages = pull(self, message_ids)
            hidden = [m for m in messages if m.metadata.src_node_id == late and now[0] < asked_at[0] + 5 * HOUR]
            self._replies.update({m.metadata.reply_to_message_id: m for m in hidden})
            return [m for m in messages if m not in hidden]

    federation.grid.__class__ = Slow
    federation.clock = lambda: now[0]

    def wait(_seconds: float) -> None:
        now[0] += HOUR / 4

    federation.wait = wait
    federation.timeout = 6 * HOUR
    return federation, now


def test_a_slow_hospital_has_a_budget_in_a_run_and_is_named(slow: Any) -> None:
    federation, now = slow
    told: list[tuple[str, object]] = []
    federation.holding = Holding(12 * HOUR, lambda site, hours: told.append((site, hours)))
    answers = [sorted(federation.status()) for _ in range(5)]
    assert answers == [["east", "north", "south"]] * 2 + [["east", "south"]] * 3
    assert told == [("north", pytest.approx(12.0, abs=0.5))]
    assert now[0] == pytest.approx(12 * HOUR, abs=HOUR)


def test_without_a_budget_it_holds_the_queue_for_days(slow: Any) -> None:
    federation, now = slow
    for _ in range(5):
        assert len(federation.status()) == 3
    assert now[0] >= 25 * HOUR


def test_a_round_that_is_long_for_all_costs_nobody_anything() -> None:
    holding = Holding(HOUR)
    assert not holding.charge({"east", "north", "south"}, 3, 10 * HOUR)
    assert not holding.charge({"north", "south"}, 3, 10 * HOUR)
    assert holding.seconds_of_site == {}
    assert not holding.charge({"north", "south"}, 4, HOUR / 2)
    assert holding.charge({"north"}, 1, HOUR)
    assert holding.over("north")
    assert not holding.over("south")
