"""A plan reckons what each way to forget costs, whom it makes wait, and what it cannot reach."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from simulations.cli import app
from simulations.planning.economics import Way, batches, fold_trainings, mean_wait, plan, ways_of
from simulations.planning.numbers import FederationNumbers

USUAL = {"patients": 4000, "never_seen": 600, "revocations_a_month": 2.5, "training_hours": 9}


def numbers(**changes: float) -> FederationNumbers:
    return FederationNumbers.model_validate({**USUAL, **changes})


def way(name: str, **changes: float) -> Way:
    return next(one for one in ways_of(numbers(**changes)) if one.name == name)


def test_fold_models_cost_what_they_learn_from() -> None:
    assert [fold_trainings(models) for models in (0, 1, 2, 4)] == [0, 0, 1, 3]


def test_batches_and_waits_follow_a_poisson_process() -> None:
    few = numbers(revocations_a_month=0.01)
    assert batches(few, 23) == pytest.approx(few.a_year, rel=0.01), "nobody joins anybody"
    assert mean_wait(few, 23) == pytest.approx(23, rel=0.01)
    many = numbers(revocations_a_month=1000)
    assert batches(many, 23) == pytest.approx(365 / 23, rel=0.01)
    assert mean_wait(many, 23) == pytest.approx(11.5, rel=0.01)


@pytest.mark.parametrize(
    ("name", "changes", "missing"),
    [
        ("qualified", {"never_seen": 60}, "40 never-seen patients are missing to 100"),
        ("qualified", {"never_seen": 110, "hospitals": 10}, "11 are there in the mean"),
        ("qualified", {"audit_folds": 0}, "two audit fold models are needed"),
        ("qualified", {"revocations_a_month": 300}, "at most 9 are rehearsed"),
        ("own", {}, "have to be forgotten at once"),
        ("own", {"revocations_a_month": 5000, "never_seen": 100}, "never-seen patients are missing to"),
        ("retrain at the deadline", {"training_hours": 200}, "7 are left"),
        ("retrain monthly", {}, "waits 30.8 days"),
        ("retrain each", {"revocations_a_month": 100}, "do not fit into 365"),
    ],
)
def test_what_cannot_be_reached_says_the_number_that_is_missing(
    name: str, changes: dict[str, float], missing: str
) -> None:
    found = way(name, **changes)
    assert not found.reachable
    assert missing in found.why_not


def test_a_qualification_breaks_even_where_its_work_equals_that_of_the_other_way() -> None:
    found = plan(numbers())
    assert found.cheapest == "qualified"
    for name, rate in found.break_even.items():
        assert rate is not None
        here = {one.name: one.trainings for one in ways_of(numbers(revocations_a_month=rate))}
        assert here["qualified"] == pytest.approx(here[name], rel=0.01)
    assert plan(numbers(revocations_a_month=0.3)).cheapest == "retrain at the deadline"
    assert plan(numbers(campaign_cost=1.0, window_days=0)).break_even["retrain each"] is None


@settings(max_examples=60, deadline=None)
@given(
    rate=st.floats(0.02, 200),
    hours=st.floats(0.01, 500),
    seen=st.integers(0, 2000),
    cost=st.floats(0.0, 1.0),
    window=st.floats(0, 20),
)
def test_whatever_the_numbers_are_the_cheapest_way_is_in_time_or_the_last_resort(
    rate: float, hours: float, seen: int, cost: float, window: float
) -> None:
    found = plan(
        numbers(revocations_a_month=rate, training_hours=hours, never_seen=seen, campaign_cost=cost, window_days=window)
    )
    ways = {one.name: one for one in found.ways}
    chosen = ways[found.cheapest]
    in_time = [one for one in found.ways if one.reachable and one.longest_wait <= found.numbers.deadline_days]
    assert chosen.trainings == min((one.trainings for one in in_time), default=chosen.trainings)
    assert chosen in in_time or (not in_time and chosen.name == "retrain each")
    assert all(one.longest_wait >= one.wait * 0.999 >= 0 for one in found.ways)
    assert all(one.reachable == (not one.why_not) for one in found.ways)


def test_the_command_prints_the_ways_what_is_out_of_reach_and_the_break_even() -> None:
    command = ["plan", "--patients", "4000", "--never-seen", "60", "--revocations", "2.5", "--training-hours", "9"]
    text = CliRunner().invoke(app, command).stdout
    assert "* cheapest in time: retraining at the deadline" in text
    assert "40 never-seen patients are missing to 100" in text
    assert text.count("Break-even against") == 3
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert (found["cheapest"], len(found["ways"])) == ("retrain at the deadline", 5)
    bad = CliRunner().invoke(app, [*command, "--lead", "40"])
    assert bad.exit_code == 2
    assert "fedforget-sim plan --patients" in CliRunner().invoke(app, ["plan", "--help"]).stdout
