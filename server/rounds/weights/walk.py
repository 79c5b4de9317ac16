"""One walk over a hospital's reply: each tensor is decoded once, checked, measured, and handed on slab by slab."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from common.errors import WireError
from common.learning.model.checkpoint import check_fit, check_names, not_finite
from common.protocol.array_bytes import Planes, from_array, read_array, to_tensor
from common.protocol.deltas import Decoded, is_difference
from server.rounds.weights.filling import Content, fill
from server.rounds.weights.layout import SLAB, Part, Slab, slabs

LARGEST = 2.0**20
"""Absolute values from here on are refused: sums of many such weights would not fit."""


class BeyondError(WireError):
    """A weight that is too large for a sum of many."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far weights moved: L2 norms over all floating tensors that changed."""

    norm: float
    weights: float
    """Of the same tensors, before."""

    @property
    def relative(self) -> float:
        """`norm / weights`; infinite where the weights were all zero."""
        if not self.norm:
            return 0.0
        return self.norm / self.weights if self.weights else float("inf")


class Workspace:
    """Memory of one slab, used again for each, and what is the same for all replies to one request."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, torch.dtype], Tensor] = {}
        self._before: Mapping[str, Tensor] | None = None
        self._ranges: dict[Part, Tensor] = {}
        self._squares: dict[str, float] = {}

    def row(self, use: str, dtype: torch.dtype, count: int) -> Tensor:
        """`count` elements, of any values."""
        key = (use, dtype)
        if key not in self._rows or len(self._rows[key]) < count:
            self._rows[key] = torch.empty(max(count, min(SLAB, 2 * count)), dtype=dtype)
        return self._rows[key][:count]

    def base(self, before: Mapping[str, Tensor], part: Part) -> Tensor:
        """The elements of `before` that `part` covers, without a copy."""
        self._know(before)
        # Views are kept: making them takes longer than copying what they show, and each reply needs the same ones.
        if part not in self._ranges:
            self._ranges[part] = before[part.name].reshape(-1)[part.start : part.stop]
        return self._ranges[part]

    def square(self, before: Mapping[str, Tensor], name: str) -> float:
        """Squared L2 norm of a tensor of `before`."""
        self._know(before)
        if name not in self._squares:
            self._squares[name] = float(torch.linalg.vector_norm(before[name], dtype=torch.float64)) ** 2
        return self._squares[name]

    def _know(self, before: Mapping[str, Tensor]) -> None:
        # By identity: comparing the weights would cost as much as what is saved here.
        if self._before is not before:
            self._before = before
            self._ranges = {}
            self._squares = {}


@dataclass
class Walk:
    """The way over a reply `after` to a request with `before`; the step is complete at its end.

    Iterating yields each slab and its elements, which the next slab overwrites.
    """

    after: Mapping[str, Tensor]
    before: Mapping[str, Tensor]
    space: Workspace = field(default_factory=Workspace)
    row: tuple[Slab, ...] | None = None
    """The slabs of what is walked over, if not all of `before` in its order."""
    where: str = "reply"
    _squares: dict[str, float] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[Slab, Tensor]]:
        """The slabs.

        Raises:
            CheckpointError: names, shapes or dtypes are not those of `before`, or a value is not finite.
            BeyondError: a value is beyond what a sum of many can hold.
            WireError: an array cannot be read.
        """
        # Names first: a reply that lacks a tensor would otherwise fail in the middle of the walk, at a KeyError.
        check_names(self.after.keys(), self.before, self.where)
        current = ""
        array: Content = None
        # A walk that is taken a second time must not measure its step twice.
        self._squares.clear()

        for slab in slabs(self.before, self.before) if self.row is None else self.row:
            bases = [self.space.base(self.before, part) for part in slab.parts]
            contents: list[Content] = []
            for part in slab.parts:
                # A tensor may span slabs, and is decoded once for all of them.
                if part.name != current:
                    current = part.name
                    array = self._read(current, self.before[current])
                contents.append(array)

            values = self.space.row("values", slab.dtype, len(slab))
            base = torch.cat(bases, out=self.space.row("base", slab.dtype, len(slab)))
            fill(values, base, slab, contents, self.space.row)

            self._check(slab, values)
            if slab.dtype.is_floating_point:
                # The base's memory is free from here on.
                self._measure(slab, torch.sub(values, base, out=base))
            yield slab, values

        # Tensors without elements are in no slab.
        for name in self.after:
            if not self.before[name].numel():
                self._read(name, self.before[name])

    def to_end(self) -> Step:
        """The step, of a walk on which nothing is picked up."""
        for _ in self:
            pass
        return self.step

    @property
    def step(self) -> Step:
        """The step so far."""
        changed_names = [name for name, square in self._squares.items() if square]
        weights = sum(self.space.square(self.before, name) for name in changed_names)

        return Step(sum(self._squares[name] for name in changed_names) ** 0.5, weights**0.5)

    def _read(self, name: str, base: Tensor) -> Content:
        """What was sent for a tensor, in one row."""
        if not isinstance(self.after, Decoded):
            tensor = self.after[name]
            check_fit(name, tensor, base, self.where)
            return tensor.reshape(-1)

        array = self.after.sent(name)
        if array is None:
            return None
        content = read_array(array)
        if isinstance(content, Planes) and base.dtype == torch.float32:
            if tuple(content.shape) != tuple(base.shape):
                raise WireError("a difference does not fit the weights that it changes")
            return content

        if not isinstance(content, Planes) and content.dtype == np.float32 and base.dtype == torch.float32:
            if content.shape != tuple(base.shape):
                check_fit(name, to_tensor(content), base, self.where)
            return content.reshape(-1)

        tensor = from_array(array)
        if is_difference(tensor, base):
            return (base + tensor).reshape(-1)
        check_fit(name, tensor, base, self.where)
        return tensor.reshape(-1)

    def _check(self, slab: Slab, values: Tensor) -> None:
        # Not in the tensor's own dtype: the absolute value of the least integer is negative.
        numbers = values if slab.dtype in {torch.float32, torch.float64} else values.double()
        # One pass over the slab is enough for honest replies; only a bad one pays for finding the tensor to name.
        if _all_small(numbers):
            return

        for part in slab.parts:
            piece = numbers[part.at : part.end]
            if not bool(torch.isfinite(piece).all()):
                raise not_finite(part.name, self.where)
            if not _all_small(piece):
                raise BeyondError(f"{part.name} holds weights beyond {LARGEST:.0f}")

    def _measure(self, slab: Slab, step: Tensor) -> None:
        squares = self.space.row("squares", torch.float64, len(slab))
        squares.copy_(step)
        torch.mul(squares, squares, out=squares)
        sums = np.add.reduceat(squares.numpy(), [part.at for part in slab.parts])
        for part, square in zip(slab.parts, sums.tolist(), strict=True):
            self._squares[part.name] = self._squares.get(part.name, 0.0) + square


def _all_small(values: Tensor) -> bool:
    low, high = torch.aminmax(values)
    # Written so that NaN, which both are as soon as one value is, fails.
    return float(low) > -LARGEST and float(high) < LARGEST


def measure(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> Step:
    """The step from `before` to `after`, summed in double precision one tensor at a time."""
    # Only what changed: large frozen layers would make every step look small.
    change = weights = 0.0

    for name, then in before.items():
        if then.is_floating_point() and (step := _norm(after[name] - then)):
            change += step**2
            weights += _norm(then) ** 2

    return Step(change**0.5, weights**0.5)


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))
