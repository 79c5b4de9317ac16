"""Tensors as Flower arrays. Half-precision ones are sent as two planes of bytes, the upper one entropy-coded.

In differences between two models sign, exponent and first digits are far from random, while the last digits are random:
Huffman coding of the upper bytes alone saves a fifth to a third, at about 100 MB/s, without loss.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from flwr.app import Array, ArrayRecord

from common.errors import WireError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

# `stype` of such arrays: length of the coded upper plane in 8 bytes, that plane, then the lower plane unchanged.
_PLANES = "fedforget.planes"
_LENGTH = 8
_HALVES = ("float16", "bfloat16")
_NPY = "numpy.ndarray"
_PLAIN = ("float32", "float64", "float16", "int64", "int32", "uint8", "bool")
_PLAIN_AXES = 8


def to_array(tensor: Tensor) -> Array:
    """One tensor as an array, bit for bit."""
    import torch  # noqa: PLC0415 - a process that refuses a message must not wait for the import

    flat = tensor.detach().cpu().contiguous()
    kind = str(flat.dtype).removeprefix("torch.")
    if kind not in _HALVES:
        return Array(flat.numpy())
    planes = flat.reshape(-1).view(torch.uint8).reshape(-1, 2).numpy()
    # Huffman coding alone: repeated strings are rare in such bytes, and searching for them takes time.
    coder = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    upper = coder.compress(planes[:, 1].tobytes()) + coder.flush()
    data = len(upper).to_bytes(_LENGTH, "big") + upper + planes[:, 0].tobytes()

    return Array(kind, tuple(flat.shape), _PLANES, data)


class Coded(Protocol):
    """An array as it travels: Flower's own, or a member of a group."""

    @property
    def dtype(self) -> str:
        """NumPy's name of the type."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements of each axis."""

    @property
    def stype(self) -> str:
        """How the data are to be read."""

    @property
    def data(self) -> bytes | memoryview:
        """All of it."""


@dataclass(frozen=True, slots=True)
class Planes:
    """Half-precision values as two planes of bytes, of which the upper one is unpacked."""

    dtype: str
    shape: tuple[int, ...]
    upper: NDArray[np.uint8]
    lower: NDArray[np.uint8]


def read_array(array: Coded) -> NDArray[Any] | Planes:
    """What an array holds, before anything is made of it; it may be a view of the message's bytes.

    Raises:
        WireError: it cannot be read.
    """
    try:
        return _planes(array) if array.stype == _PLANES else _npy(array)
    except WireError:
        raise
    except Exception as err:  # noqa: BLE001 - of a damaged head NumPy's reader raises SyntaxError, TokenError, EOFError...
        raise WireError(f"weights that cannot be read: {type(err).__name__}") from None


def from_array(array: Coded) -> Tensor:
    """The tensor that `to_array` was given.

    Raises:
        WireError: it cannot be read.
    """
    import torch  # noqa: PLC0415 - as above

    content = read_array(array)
    if not isinstance(content, Planes):
        return to_tensor(content)

    dtype = torch.float16 if content.dtype == "float16" else torch.bfloat16
    values = torch.empty(content.shape, dtype=dtype)
    if values.numel():
        join_planes(content.upper, content.lower, values.view(torch.int16).reshape(-1).numpy().view(np.uint16))
    return values


def to_tensor(values: NDArray[Any]) -> Tensor:
    """A copy of values that were read, as a tensor.

    Raises:
        WireError: torch has no such type.
    """
    import torch  # noqa: PLC0415 - as above

    try:
        # Not with NumPy's strides, which are 0 where an array is empty.
        return torch.from_numpy(values.reshape(-1).copy()).reshape(values.shape)
    except (TypeError, ValueError) as err:
        raise WireError(f"weights that cannot be read: {type(err).__name__}") from None


def join_planes(upper: NDArray[np.uint8], lower: NDArray[np.uint8], values: NDArray[np.uint16]) -> None:
    """Fill `values` with the bits of both planes."""
    # Whole vectors of 16 bits: writing every second byte takes four times as long.
    np.copyto(values, upper)
    np.left_shift(values, 8, out=values)
    np.bitwise_or(values, lower, out=values)


def _npy(array: Coded) -> NDArray[Any]:
    """The array in Flower's own form, a `.npy` file; NumPy's reader takes longer than all the rest of a small array."""
    plain = array.stype == _NPY and len(array.shape) <= _PLAIN_AXES
    head = _npy_head(array.dtype, tuple(array.shape)) if plain else b""
    count = math.prod(array.shape)
    # A head that NumPy would not have written, e.g. with padding or in order of Fortran, goes to its own reader.
    if not head or array.data[: len(head)] != head:
        return _slowly(array)

    dtype = np.dtype(array.dtype)
    if len(array.data) != len(head) + count * dtype.itemsize:
        return _slowly(array)
    return np.frombuffer(array.data, dtype, count, len(head)).reshape(array.shape)


def _slowly(array: Coded) -> NDArray[Any]:
    return Array(array.dtype, array.shape, array.stype, bytes(array.data)).numpy()


@lru_cache(maxsize=4096)
def _npy_head(dtype: str, shape: tuple[int, ...]) -> bytes:
    """What NumPy writes in front of such an array in order of C; empty where the reader must see for itself."""
    if dtype not in _PLAIN or any(length < 0 for length in shape):
        return b""
    file = BytesIO()
    head = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, head)

    return file.getvalue()


def _planes(array: Coded) -> Planes:
    # Checked before any memory is allocated: the sender chose these numbers.
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
    lower = np.frombuffer(data, np.uint8, count, end) if count else np.empty(0, np.uint8)

    return Planes(array.dtype, array.shape, np.frombuffer(upper, np.uint8), lower)


def to_record(tensors: Iterable[tuple[str, Tensor]]) -> ArrayRecord:
    """All tensors by name, converted one at a time."""
    return ArrayRecord({name: to_array(tensor) for name, tensor in tensors}, keep_input=False)
