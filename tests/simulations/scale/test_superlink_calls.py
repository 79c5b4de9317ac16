"""What Flower's SuperLink pays for hospitals that only wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulations.scale.superlink_calls import Calls, measure, table

# Flower's own configuration of Alembic.
pytestmark = pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")


def test_hospitals_that_wait_find_nothing_and_every_call_is_timed(tmp_path: Path) -> None:
    found = measure(3, tmp_path)
    assert min(found.look, found.look_in_round, found.heartbeat) > 0
    assert (tmp_path / "state.db").stat().st_size > 0


def test_the_share_of_the_time_is_that_of_all_looks_and_heartbeats() -> None:
    calls = Calls(look=0.003, look_in_round=0.006, heartbeat=0.03)
    assert calls.busy(500, calls.look) == pytest.approx(1.0)
    assert calls.busy(500, calls.look_in_round) == pytest.approx(1.5)


def test_the_table_has_a_line_for_each_number_of_hospitals() -> None:
    lines = table([2, 4]).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["2", "4"]
    assert all(line.count("|") == 6 for line in lines)
