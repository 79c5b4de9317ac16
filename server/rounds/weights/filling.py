"""From what was sent for the tensors of one slab to their elements, in a few operations over all of the slab."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.protocol.array_bytes import Planes, join_planes
from server.rounds.weights.layout import Slab

Content = Planes | NDArray[Any] | Tensor | None
"""Half-precision differences, the elements themselves in one row, or None for a tensor that stays as it was."""

_NOTHING = 0x80
"""Upper byte of -0.0, which changes no number it is added to; +0.0 would turn -0.0 into 0.0."""


def fill(
    values: Tensor,
    base: Tensor,
    slab: Slab,
    contents: Sequence[Content],
    row: Callable[[str, torch.dtype, int], Tensor],
) -> None:
    """Fill `values` with the elements of a slab, `base` and what was sent for each of its parts."""
    # Usually all tensors of a message have one short type, and one pass serves the whole slab.
    short = next((content.dtype for content in contents if isinstance(content, Planes)), None)
    if short is None:
        values.copy_(base)
    else:
        _add(values, base, slab, contents, row, short)

    # NumPy takes a range of it in a tenth of torch's time, and a slab may hold a hundred small tensors. Only where such
    # content is there: NumPy has no bfloat16.
    sent_whole = any(isinstance(content, np.ndarray) for content in contents)
    numbers = values.numpy() if sent_whole else np.empty(0)

    # Tensors that were sent whole, or in the other short type, overwrite what the pass above wrote there.
    for part, content in zip(slab.parts, contents, strict=True):
        if isinstance(content, np.ndarray):
            numbers[part.at : part.end] = content[part.start : part.stop]
        elif isinstance(content, Tensor):
            values[part.at : part.end].copy_(content[part.start : part.stop])
        elif content is not None and content.dtype != short:
            upper, lower = content.upper[part.start : part.stop], content.lower[part.start : part.stop]
            bits = np.empty(len(upper), np.uint16)
            join_planes(upper, lower, bits)
            torch.add(base[part.at : part.end], _halves(bits, content.dtype), out=values[part.at : part.end])


def _add(
    values: Tensor,
    base: Tensor,
    slab: Slab,
    contents: Sequence[Content],
    row: Callable[[str, torch.dtype, int], Tensor],
    short: str,
) -> None:
    """`base` plus all differences of the type `short`."""
    upper = row("upper", torch.uint8, len(slab)).numpy()
    lower = row("lower", torch.uint8, len(slab)).numpy()

    for part, content in zip(slab.parts, contents, strict=True):
        if isinstance(content, Planes) and content.dtype == short:
            upper[part.at : part.end] = content.upper[part.start : part.stop]
            lower[part.at : part.end] = content.lower[part.start : part.stop]
        else:
            upper[part.at : part.end] = _NOTHING
            lower[part.at : part.end] = 0

    bits = row("bits", torch.int16, len(slab)).numpy().view(np.uint16)
    join_planes(upper, lower, bits)
    # In two steps: torch adds numbers of two types several times slower than it converts them.
    values.copy_(_halves(bits, short))
    values.add_(base)


def _halves(bits: NDArray[np.uint16], dtype: str) -> Tensor:
    return torch.from_numpy(bits.view(np.int16)).view(torch.float16 if dtype == "float16" else torch.bfloat16)
