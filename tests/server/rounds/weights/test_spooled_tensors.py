from __future__ import annotations

import pytest
import torch

import server.rounds.weights.spooled_tensors
from common.errors import OutputError
from server.rounds.aggregation import RunningMean
from server.rounds.weights.spooled_tensors import PIECE, SpooledTensors


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor is small enough for memory."""
    monkeypatch.setattr(server.rounds.weights.spooled_tensors, "MEMORY", 1)


def tensors() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {
        "large": torch.randn(PIECE + 5, generator=draw),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        "square": torch.randn(3, 3, generator=draw),
    }


def test_tensors_come_back_from_the_disk_as_they_were_also_when_put_again(on_disk: None) -> None:
    spooled = SpooledTensors(torch.float32)
    for factor in (1.0, -2.0):
        for name, tensor in tensors().items():
            spooled.put(name, factor * tensor)

    for name, tensor in tensors().items():
        found = spooled.get(name)
        assert found is not None
        assert torch.equal(found, -2.0 * tensor)

    assert spooled.get("another") is None


def test_a_mean_on_disk_has_the_bits_of_one_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for memory in (2**30, 1):
        monkeypatch.setattr(server.rounds.weights.spooled_tensors, "MEMORY", memory)
        mean = RunningMean()
        for share in (0.2, 0.3, 0.5):
            mean.add({name: share * tensor for name, tensor in tensors().items()}, share)
        found.append(mean.result(tensors()))

    assert all(torch.equal(found[0][name], found[1][name]) for name in tensors())
    torch.testing.assert_close(found[0]["large"], tensors()["large"] * 0.38)


def test_a_full_disk_is_said_in_one_line(on_disk: None, monkeypatch: pytest.MonkeyPatch) -> None:
    spooled = SpooledTensors(torch.float32)

    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spooled._file, "write", full)
    with pytest.raises(OutputError, match="the disk is full"):
        spooled.put("w", torch.ones(3))
