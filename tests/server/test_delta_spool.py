from __future__ import annotations

import itertools
from pathlib import Path

import torch

from server.aggregation import DeltaSpool, project_conflicts


def test_opposite_deltas_cancel_and_a_zero_delta_does_no_harm() -> None:
    a = torch.tensor([1.0, 2.0])
    assert project_conflicts([a, -a]).tolist() == [0.0, 0.0]
    assert project_conflicts([a, torch.zeros(2)]).tolist() == [1.0, 2.0]
    assert a.tolist() == [1.0, 2.0]


def test_after_projection_no_delta_works_against_the_other_of_two() -> None:
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        a, b = torch.randn(5, generator=draw), torch.randn(5, generator=draw)
        total = project_conflicts([a, b])
        assert float(total @ a) > -1e-5
        assert float(total @ b) > -1e-5


def test_the_sum_does_not_depend_on_who_answered_first(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    parent, *after = ({"w": torch.randn(6, 4, generator=draw), "b": torch.randn(3, generator=draw)} for _ in range(4))
    sites = dict(zip("abc", after, strict=True))
    sums = []
    for number, order in enumerate(itertools.permutations(sites)):
        spool = DeltaSpool(tmp_path / str(number))
        for name in order:
            spool.add(name, parent, sites[name])
        sums.append(spool.apply(parent))
        assert list((tmp_path / str(number)).iterdir()) == []
    assert all(torch.equal(found[n], sums[0][n]) for found in sums for n in parent)


def test_counters_are_the_parents(tmp_path: Path) -> None:
    before = {"w": torch.zeros(2), "steps": torch.tensor(5)}
    spool = DeltaSpool(tmp_path)
    spool.add("north", before, {"w": torch.ones(2), "steps": torch.tensor(9)})
    after = spool.apply(before)
    assert after["w"].tolist() == [1.0, 1.0]
    assert int(after["steps"]) == 5
