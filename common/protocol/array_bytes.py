"""Tensors as Flower arrays. Half-precision ones are sent as two planes of bytes, the upper one entropy-coded.

In differences between two models sign, exponent and first digits are far from random, while the last digits are random:
Huffman coding of the upper bytes alone saves a fifth to a third, at about 100 MB/s, without loss.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flwr.app import Array, ArrayRecord

from common.errors import WireError

if TYPE_CHECKING:
    from torch import Tensor

# `stype` of such arrays: length of the coded upper plane in 8 bytes, that plane, then the lower plane unchanged.
_PLANES = "fedforget.planes"
_LENGTH = 8
_HALVES = ("float16", "bfloat16")


def to_array(tensor: Tensor) -> Array:
    """One tensor as an array, bit for bit."""
    import torch  # noqa: PLC0415 - a process that refuses a message must not wait for the import

    flat = tensor.detach().cpu().contiguous()
    kind = str(flat.dtype).removeprefix("torch.")
    if kind not in _HALVES:
        return Array(flat.numpy())
    planes = flat.reshape(-1).view(torch.uint8).reshape(-1, 2).numpy()
    coder = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    upper = coder.compress(planes[:, 1].tobytes()) + coder.flush()
    data = len(upper).to_bytes(_LENGTH, "big") + upper + planes[:, 0].tobytes()

    return Array(kind, tuple(flat.shape), _PLANES, data)


def from_array(array: Array) -> Tensor:
    """The tensor that `to_array` was given.

    Raises:
        WireError: it cannot be read.
    """
    import torch  # noqa: PLC0415 - as above

    try:
        if array.stype != _PLANES:
            return torch.from_numpy(array.numpy())
        return _from_planes(array)
    except WireError:
        raise
    except Exception as err:  # noqa: BLE001 - of a damaged head NumPy's reader raises SyntaxError, TokenError, EOFError...
        raise WireError(f"weights that cannot be read: {type(err).__name__}") from None


def _from_planes(array: Array) -> Tensor:
    import torch  # noqa: PLC0415 - as above

    if array.dtype not in _HALVES or any(length < 0 for length in array.shape):
        raise WireError("weights that cannot be read: planes of another type or shape")
    count = math.prod(array.shape)
    data = memoryview(array.data)
    end = len(data) - count
    if end < _LENGTH or int.from_bytes(data[:_LENGTH], "big") != end - _LENGTH:
        raise WireError("weights that cannot be read: planes of another length")
    decoder = zlib.decompressobj()
    # Bounded, as a few bytes can unpack to gigabytes.
    upper = decoder.decompress(data[_LENGTH:end], count + 1)
    if len(upper) != count or not decoder.eof:
        raise WireError("weights that cannot be read: planes of another length")
    planes = torch.empty((count, 2), dtype=torch.uint8)
    planes[:, 0] = torch.frombuffer(bytearray(data[end:]), dtype=torch.uint8) if count else planes[:, 0]
    planes[:, 1] = torch.frombuffer(bytearray(upper), dtype=torch.uint8) if count else planes[:, 1]
    dtype = torch.float16 if array.dtype == "float16" else torch.bfloat16

    return planes.reshape(-1).view(dtype).reshape(array.shape)


def to_record(tensors: Iterable[tuple[str, Tensor]]) -> ArrayRecord:
    """All tensors by name, converted one at a time."""
    return ArrayRecord({name: to_array(tensor) for name, tensor in tensors}, keep_input=False)
