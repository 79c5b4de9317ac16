"""Which patients were in which step: what is asked of it after a revocation, and at a campaign's end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from client.cohort.participation import Participation, Use, fixed_cohort, members, record, versions_that_saw
from client.database import migrate, opened

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with opened(tmp_path / "site.db") as engine:
        migrate(engine)
        yield engine


def used(campaign: int, step: str, use: Use, weights: str) -> Participation:
    return Participation(campaign, step, use, weights, NOW)


def test_only_steps_that_changed_weights_with_the_patient_are_found_in_order(engine: Engine) -> None:
    record(engine, ["a", "b"], used(1, "train", "train", "w0"))
    record(engine, ["b", "c"], used(1, "train", "train", "w1"))
    record(engine, ["a"], used(2, "audit", "evaluate", "w2"))
    record(engine, ["a"], used(2, "train.unlearn", "unlearn", "w2"))
    record(engine, ["c"], used(2, "train.retain", "train", "w3"))
    assert [p.weights for p in versions_that_saw(engine, ["a"])] == ["w0", "w2"]
    assert [p.weights for p in versions_that_saw(engine, ["b", "c"])] == ["w0", "w1", "w3"]
    assert versions_that_saw(engine, ["a"])[0] == used(1, "train", "train", "w0")
    assert versions_that_saw(engine, ["nobody"]) == versions_that_saw(engine, []) == ()


def test_cohorts_whose_ids_join_to_the_same_text_are_not_confused(engine: Engine) -> None:
    record(engine, ["ab", "c"], used(1, "train", "train", "w0"))
    record(engine, ["a", "bc"], used(1, "train", "train", "w1"))
    assert [p.weights for p in versions_that_saw(engine, ["bc"])] == ["w1"]


def test_whom_a_campaign_forgets_is_fixed_at_its_first_request_also_when_that_is_nobody(engine: Engine) -> None:
    assert fixed_cohort(engine, 3, {"a"}, NOW) == {"a"}
    assert fixed_cohort(engine, 3, {"a", "b"}, NOW) == {"a"}
    assert fixed_cohort(engine, 4, set(), NOW) == frozenset()
    assert fixed_cohort(engine, 4, {"b"}, NOW) == frozenset()
    assert fixed_cohort(engine, 5, {"a", "b"}, NOW) == {"a", "b"}
    assert versions_that_saw(engine, ["a", "b"]) == ()


def test_members_are_of_one_campaign_use_and_step(engine: Engine) -> None:
    record(engine, ["a"], used(1, "train", "train", "w0"))
    record(engine, ["b"], used(1, "train.retain", "train", "w1"))
    record(engine, ["c"], used(2, "train", "train", "w1"))
    assert members(engine, 1, "train") == {"a", "b"}
    assert members(engine, 1, "train", step="train") == {"a"}
    assert members(engine, 1, "unlearn") == frozenset()


def test_a_hospital_of_twenty_thousand_patients_and_years_of_rounds_answers_within_a_second(engine: Engine) -> None:
    patients = [f"p{n}" for n in range(20_000)]
    for cohort in range(2):
        for number in range(50):
            record(engine, patients[cohort:], used(cohort, "train", "train", f"w{cohort}-{number}"))

    begin = time.process_time()
    found = versions_that_saw(engine, patients[:1000])
    assert time.process_time() - begin < 1
    assert len(found) == 100
    assert {p.weights for p in versions_that_saw(engine, ["p0"])} == {f"w0-{n}" for n in range(50)}
