from __future__ import annotations

import itertools
import resource
from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.errors import OutputError, WireError
from server.rounds.weights import conflicts
from server.rounds.weights.conflicts import DeltaSpool, project_conflicts


def sum_of(deltas: list[Tensor]) -> Tensor:
    """Without conflicts."""
    rows = torch.stack(deltas).numpy()
    return torch.from_numpy(project_conflicts((rows @ rows.T).astype("float64")).astype("float32") @ rows)


def one_by_one(deltas: list[Tensor]) -> Tensor:
    """PCGrad as it is written down: each delta with each other."""
    total = torch.zeros_like(deltas[0])
    for at, delta in enumerate(deltas):
        left = delta.clone()
        for other_at, other in enumerate(deltas):
            inner = float((left * other).sum())
            if other_at != at and inner < 0:
                left -= inner / float((other * other).sum()) * other
        total += left
    return total


def test_the_gram_matrix_gives_what_projecting_each_delta_on_each_other_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(0)
    before = {"a": torch.randn(50, generator=draw), "n": torch.tensor(3), "b": torch.randn(7, 9, generator=draw)}
    after = [
        {n: t + torch.randn(t.shape, generator=draw) if n != "n" else t for n, t in before.items()} for _ in range(12)
    ]
    # Tensors in one slab, and tensors over several.
    for least in (2**12, 20):
        monkeypatch.setattr(conflicts, "_LEAST", least)
        monkeypatch.setattr(conflicts, "_MATRIX", 1)
        spool = DeltaSpool(tmp_path / str(least))
        for number, state in enumerate(after):
            spool.add(f"site-{number:02}", before, state)
        applied = spool.apply(before)
        for name in "ab":
            wanted = before[name] + one_by_one([state[name] - before[name] for state in after])
            torch.testing.assert_close(applied[name], wanted, atol=1e-5, rtol=1e-5)


def test_opposite_deltas_cancel_and_a_zero_delta_does_no_harm() -> None:
    a = torch.tensor([1.0, 2.0])
    assert sum_of([a, -a]).tolist() == [0.0, 0.0]
    assert sum_of([a, torch.zeros(2)]).tolist() == [1.0, 2.0]
    assert a.tolist() == [1.0, 2.0]


def test_after_projection_no_delta_works_against_the_other_of_two() -> None:
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        a = torch.randn(5, generator=draw)
        b = torch.randn(5, generator=draw)
        total = sum_of([a, b])
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


def test_a_second_reply_of_a_site_is_refused_and_the_first_one_counts(tmp_path: Path) -> None:
    before = {"w": torch.zeros(2)}
    spool = DeltaSpool(tmp_path)
    spool.add("north", before, {"w": torch.ones(2)})
    with pytest.raises(WireError, match="north sent a second"):
        spool.add("north", before, {"w": torch.full((2,), 9.0)})
    assert spool.apply(before)["w"].tolist() == [1.0, 1.0]


def test_nothing_to_apply_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WireError, match="no unlearned model"):
        DeltaSpool(tmp_path).apply({"w": torch.zeros(2)})


def test_what_a_killed_run_left_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    before = {"w": torch.zeros(2)}
    DeltaSpool(tmp_path).add("north", before, {"w": torch.full((2,), 5.0)})
    other = tmp_path / "notes.txt"
    other.write_text("kept")
    again = DeltaSpool(tmp_path)
    assert list(tmp_path.iterdir()) == [other]
    again.add("south", before, {"w": torch.ones(2)})
    assert again.apply(before)["w"].tolist() == [1.0, 1.0]


def test_a_full_disk_keeps_nothing_of_the_delta_and_the_spool_goes_on(tmp_path: Path) -> None:
    before = {"w": torch.zeros(4096)}
    spool = DeltaSpool(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))

    try:
        with pytest.raises(OutputError, match="free space"):
            spool.add("north", before, {"w": torch.ones(4096)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert list(tmp_path.iterdir()) == []
    spool.add("north", before, {"w": torch.ones(4096)})
    assert float(spool.apply(before)["w"].sum()) == 4096.0
