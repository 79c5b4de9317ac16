"""A model as a row of slabs: ranges of its elements that are worked on at once, whatever tensors they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

SLAB = 2**17
"""Elements of a slab at most: what is computed of one stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Part:
    """A range of one tensor's elements, `start` to `stop`, which begins at element `at` of its slab."""

    name: str
    start: int
    stop: int
    at: int

    @property
    def end(self) -> int:
        """Where it ends in the slab."""
        return self.at + self.stop - self.start


@dataclass(frozen=True, slots=True)
class Slab:
    """Parts of tensors of one dtype, side by side; `begin` is the place of the first element in the whole row."""

    dtype: torch.dtype
    begin: int
    parts: tuple[Part, ...]

    def __len__(self) -> int:
        """How many elements."""
        return self.parts[-1].end


def slabs(tensors: Mapping[str, Tensor], names: Iterable[str], size: int = SLAB) -> tuple[Slab, ...]:
    """The row of those of `tensors` that are called `names`, in their order."""
    return tuple(_slabs(tensors, names, size))


def _slabs(tensors: Mapping[str, Tensor], names: Iterable[str], size: int) -> Iterator[Slab]:
    parts: list[Part] = []
    dtype = torch.float32
    begin = 0
    offset = 0

    for name in names:
        tensor = tensors[name]
        start = 0
        count = tensor.numel()

        while start < count:
            # A slab has one dtype, so that its elements lie in one row of memory.
            if parts and (offset == size or tensor.dtype != dtype):
                yield Slab(dtype, begin, tuple(parts))
                begin += offset
                parts, offset = [], 0

            dtype = tensor.dtype
            stop = min(count, start + size - offset)
            parts.append(Part(name, start, stop, offset))
            offset += stop - start
            start = stop

    if parts:
        yield Slab(dtype, begin, tuple(parts))
