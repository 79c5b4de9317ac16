"""Reading and adding a reply as version 0.2 did, for the bench alone: gate, norms and sum each decoded every tensor."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from io import BytesIO

import numpy as np
import torch
from torch import Tensor

from common.learning.model.checkpoint import check_state
from common.protocol.array_bytes import Coded
from common.protocol.deltas import restore

PIECE = 2**20
SCALE = 2.0**40
LARGEST = 2.0**20


def from_array(array: Coded) -> Tensor:
    """One tensor."""
    if array.stype != "fedforget.planes":
        return torch.from_numpy(np.load(BytesIO(array.data)))
    count = math.prod(array.shape)
    data = memoryview(array.data)
    end = len(data) - count
    upper = zlib.decompressobj().decompress(data[8:end], count + 1)
    planes = torch.empty((count, 2), dtype=torch.uint8)
    planes[:, 0] = torch.frombuffer(bytearray(data[end:]), dtype=torch.uint8)
    planes[:, 1] = torch.frombuffer(bytearray(upper), dtype=torch.uint8)
    dtype = torch.float16 if array.dtype == "float16" else torch.bfloat16

    return planes.reshape(-1).view(dtype).reshape(array.shape)


class OldReply(Mapping[str, Tensor]):
    """A reply that decodes a tensor whenever it is asked for it."""

    def __init__(self, arrays: Mapping[str, Coded], base: Mapping[str, Tensor]) -> None:
        self._arrays = arrays
        self._base = base

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._arrays:
            return self._base[name]
        return restore(from_array(self._arrays[name]), self._base[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)


def check(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> float:
    """What the gate looked at."""
    check_state(after, before, where="reply")
    for tensor in after.values():
        if not _summable(tensor):
            raise ValueError
    norm = 0.0
    for name, then in before.items():
        step = float(torch.linalg.vector_norm(after[name] - then, dtype=torch.float64))
        norm += step**2 + 0 * float(torch.linalg.vector_norm(then, dtype=torch.float64))

    return float(norm**0.5)


def _summable(tensor: Tensor) -> bool:
    flat = tensor.reshape(-1)
    return all(bool((flat[at : at + PIECE].double().abs() < LARGEST).all()) for at in range(0, len(flat), PIECE))


def add(total: dict[str, Tensor], state: Mapping[str, Tensor], share: float) -> None:
    """Add `share` times a state to a sum, after it was looked at once more."""
    if not all(_summable(tensor) for tensor in state.values()):
        raise ValueError

    for name, tensor in state.items():
        flat = tensor.reshape(-1)
        for start in range(0, len(flat), PIECE):
            step = (flat[start : start + PIECE].double() * (share * SCALE)).round_().to(torch.int64)
            # The sum lay in a file object, also while that was in memory.
            piece = torch.frombuffer(bytearray(total[name][start : start + PIECE].numpy().tobytes()), dtype=torch.int64)
            total[name][start : start + PIECE] = torch.frombuffer(
                bytearray(piece.add_(step).numpy().tobytes()), dtype=torch.int64
            )


def project_conflicts(deltas: list[Tensor]) -> Tensor:
    """The sum of deltas, each compared with each other one."""
    total = torch.zeros_like(deltas[0])
    for at, delta in enumerate(deltas):
        remainder = delta.clone()
        for other_at, other in enumerate(deltas):
            inner = float((remainder * other).sum())
            if other_at != at and inner < 0:
                remainder -= inner / float((other * other).sum()) * other

        total += remainder

    return total
