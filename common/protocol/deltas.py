"""Weights as changes to a base that the receiver has: differences in half precision, with error feedback.

An array in the dtype of the base's tensor replaces it; one in `float16` or `bfloat16` is added to it. The rounding
error is added to the sender's next difference, so that it does not accumulate over rounds (Seide et al. 2014,
1-bit SGD; Karimireddy et al. 2019, arXiv 1901.09847).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from common.errors import WireError
from common.learning.config import Precision
from common.protocol.array_bytes import Coded, from_array

State = dict[str, Tensor]

_SHORT = {"fp16": torch.float16, "bf16": torch.bfloat16}


def same(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors are equal bit for bit: 0 and -0 differ, as do their digests."""
    return left.dtype == right.dtype and left.shape == right.shape and torch.equal(_bits(left), _bits(right))


def _bits(tensor: Tensor) -> Tensor:
    # As bytes: NaN equals itself there, and -0 differs from 0.
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def shorten(
    after: Tensor, base: Tensor, precision: Precision, carried_error: Tensor | None = None
) -> tuple[Tensor | None, Tensor | None]:
    """The array to send for one tensor (None for nothing) and the error to carry over (None if there is none).

    `carried_error` is the previous one. A tensor that `precision` cannot hold is sent whole.
    """
    # Integers, e.g. the counters of a BatchNorm, are sent whole: a rounded difference would change them.
    if precision == "fp32" or after.dtype != torch.float32:
        return (None if same(after, base) else after), None
    difference = after - base
    if carried_error is not None:
        difference += carried_error
    short = difference.to(_SHORT[precision])
    # fp16 ends at 65,504: a larger step is sent whole, and leaves no error to carry over.
    if not bool(torch.isfinite(short).all()):
        return after, None
    # In place: the difference is not needed any more, and may be as large as the model.
    error = difference.sub_(short)

    return (short if bool(short.any()) else None), (error if bool(error.any()) else None)


def restore(array: Tensor, base: Tensor) -> Tensor:
    """The tensor that `shorten` encoded, up to the error that it carries over.

    Raises:
        WireError: the difference has another shape, or its tensor accepts no differences.
    """
    return base + array if is_difference(array, base) else array


def is_difference(array: Tensor, base: Tensor) -> bool:
    """Whether an array is added to the tensor `base`, not put in its place.

    Raises:
        WireError: it is a difference that does not fit.
    """
    if array.dtype == base.dtype or array.dtype not in _SHORT.values():
        return False
    if array.shape != base.shape or base.dtype != torch.float32:
        raise WireError("a difference does not fit the weights that it changes")
    return True


def encode(
    after: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    precision: Precision,
    carried_errors: Mapping[str, Tensor] | None = None,
) -> tuple[State, State]:
    """Arrays that change `base` to `after`, and the errors to carry over; unchanged tensors are in neither."""
    arrays: State = {}
    errors: State = {}

    for name, tensor in after.items():
        array, error = shorten(tensor, base[name], precision, (carried_errors or {}).get(name))
        if array is not None:
            arrays[name] = array
        if error is not None:
            errors[name] = error

    return arrays, errors


def decoded(
    after: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    precision: Precision,
    carried_errors: Mapping[str, Tensor] | None = None,
) -> State:
    """`after` as the receiver of `encode` gets it; tensors are on the CPU."""
    arrays, _ = encode({name: tensor.detach().cpu() for name, tensor in after.items()}, base, precision, carried_errors)
    return {name: restore(arrays[name], base[name]) if name in arrays else base[name] for name in base}


class Decoded(Mapping[str, Tensor]):
    """`base` with the arrays of a message applied. Each access computes a tensor and does not keep it.

    Tensors without an array are the base's own. Access raises a `WireError` for an array that cannot be read.
    """

    def __init__(self, arrays: Mapping[str, Coded], base: Mapping[str, Tensor]) -> None:
        self._arrays = arrays
        self._base = base

    def __getitem__(self, name: str) -> Tensor:
        """One tensor."""
        if name not in self._arrays:
            return self._base[name]
        array = from_array(self._arrays[name])
        return restore(array, self._base[name]) if name in self._base else array

    def sent(self, name: str) -> Coded | None:
        """The array of a tensor as it was sent; None where there is none."""
        return self._arrays.get(name)

    def __contains__(self, name: object) -> bool:
        """Without decoding it."""
        return name in self._base or name in self._arrays

    def __iter__(self) -> Iterator[str]:
        """Names, the base's first."""
        yield from self._base
        yield from (name for name in self._arrays if name not in self._base)

    def __len__(self) -> int:
        """How many tensors."""
        return sum(1 for _ in self)


def rounded(state: Mapping[str, Tensor], precision: Precision) -> State:
    """`state` with every float rounded to `precision`; a tensor that `precision` cannot hold stays unchanged."""
    if precision == "fp32":
        return dict(state)
    return {name: _rounded(tensor, precision) for name, tensor in state.items()}


def _rounded(tensor: Tensor, precision: Precision) -> Tensor:
    short, _ = shorten(tensor, torch.zeros_like(tensor), precision)
    if short is None or short.dtype == tensor.dtype:
        # Nothing to send means that the tensor is zeros, or so small that all of it rounds to zero.
        return tensor if short is not None or tensor.dtype != torch.float32 else torch.zeros_like(tensor)
    return restore(short, torch.zeros_like(tensor))


def whole(state: Mapping[str, Tensor], precision: Precision) -> Iterator[tuple[str, Tensor]]:
    """Arrays that change zeros to `state`, bit for bit; in half precision where that is exact."""
    for name, tensor in state.items():
        zeros = torch.zeros_like(tensor)
        short, _ = shorten(tensor, zeros, precision)
        # Checked and not assumed: a sum of zeros and the rounded value gives 0 for -0.
        exact = short is not None and same(restore(short, zeros), tensor)
        yield name, (short if exact and short is not None else tensor)
