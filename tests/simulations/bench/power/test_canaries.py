"""The test that canaries are judged by, on losses that are given."""

from __future__ import annotations

import numpy as np

from simulations.bench.power.canaries import COUNTS, Cost, Result, membership, report, share_flagged

DRAW = np.random.default_rng(0)
REFERENCE = DRAW.gamma(2.0, 1.0, 200)


def test_canaries_tell_a_model_that_knows_them_from_one_that_never_saw_them() -> None:
    never = [share_flagged(DRAW.gamma(2.0, 1.0, 10), REFERENCE, 5, seed) for seed in range(100)]
    assert np.mean(never) < 0.12
    assert share_flagged(np.full(10, 0.3), REFERENCE, 10, 0) == 1.0
    assert share_flagged(np.full(10, 9.0), REFERENCE, 10, 0) == 0.0


def test_who_is_known_has_the_smaller_loss() -> None:
    assert membership(np.array([0.1, 0.2]), np.array([1.0, 2.0])) == 1.0
    assert membership(np.array([1.0]), np.array([1.0])) == 0.5


def test_the_page_has_a_row_for_each_way_and_a_cost_for_each_kind() -> None:
    results = [Result("plausible", how, dict.fromkeys(COUNTS, 0.5), 0.6) for how in ("honest", "half")] * 2
    text = report(results, [Cost("plausible", 0.1, 0.0), Cost("plausible", 0.3, 0.0)], 2)
    assert text.count("| plausible |") == 3
    assert "+0.200 ± 0.100" in text
