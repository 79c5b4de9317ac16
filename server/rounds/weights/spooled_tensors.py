"""Tensors that are needed again later but not now: in a temporary file without a name once they are large."""

from __future__ import annotations

import os
import tempfile
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from common.disk import unwritable

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = 2**26
"""Bytes that are kept in memory before a file is used."""
PIECE = 2**20
"""Elements that are worked on at once."""


def starts(tensor: Tensor) -> range:
    """Where its pieces begin."""
    return range(0, tensor.numel(), PIECE)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise unwritable(err, tempfile.gettempdir(), remedy="free space, or set TMPDIR") from None


class FlatStore:
    """A fixed number of elements of one dtype, zero at first, that are changed range by range.

    Writing raises an `OutputError` if the disk is full.
    """

    def __init__(self, count: int, dtype: torch.dtype) -> None:
        self._size = dtype.itemsize
        self._values: Tensor | None = torch.zeros(count, dtype=dtype) if count * dtype.itemsize <= MEMORY else None
        self._buffer = torch.empty(0, dtype=dtype)
        if self._values is not None:
            return
        with _explained():
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the object
            # The file has no name, so closing it frees the space, also when the process is killed.
            weakref.finalize(self, self._file.close)
            self._file.truncate(count * self._size)

    def read(self, start: int, stop: int) -> Tensor:
        """The elements from `start` to `stop`. The next call may overwrite them: `write` what is changed before."""
        if self._values is not None:
            return self._values[start:stop]
        if len(self._buffer) < stop - start:
            self._buffer = torch.empty(stop - start, dtype=self._buffer.dtype)
        part = self._buffer[: stop - start]
        view = part.numpy().data.cast("B")
        at = 0
        while at < len(view):
            at += os.preadv(self._file.fileno(), [view[at:]], start * self._size + at)

        return part

    def write(self, start: int, values: Tensor) -> None:
        """Elements from `start` on; nothing needs to be done for changed elements that lie in memory."""
        if self._values is not None:
            target = self._values[start : start + len(values)]
            if target.data_ptr() != values.data_ptr():
                target.copy_(values)
            return

        view = values.numpy().data.cast("B")
        at = 0
        with _explained():
            while at < len(view):
                at += os.pwrite(self._file.fileno(), view[at:], start * self._size + at)


class SpooledTensors:
    """Tensors of one dtype by name, read and written in pieces of `PIECE` elements. The file is gone with the object.

    Writing raises an `OutputError` if the disk is full.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY)  # noqa: SIM115 - closed with the object
        weakref.finalize(self, self._file.close)
        self._at: dict[str, int] = {}
        self._end = 0
        self.shapes: dict[str, torch.Size] = {}

    def put(self, name: str, tensor: Tensor) -> None:
        """A whole tensor."""
        # A name that was put before keeps its place: shapes do not change within a line of rounds.
        if name not in self.shapes:
            self._at[name] = self._end
            self.shapes[name] = tensor.shape
            self._end += tensor.numel() * self._dtype.itemsize
        flat = tensor.reshape(-1)
        for start in starts(flat):
            piece = flat[start : start + PIECE].contiguous()
            with _explained():
                self._file.seek(self._at[name] + start * self._dtype.itemsize)
                self._file.write(piece.numpy().data.cast("B"))

    def get(self, name: str) -> Tensor | None:
        """A whole tensor; None if there is none."""
        if name not in self.shapes:
            return None
        tensor = torch.empty(self.shapes[name].numel(), dtype=self._dtype)
        for start in starts(tensor):
            piece = tensor[start : start + PIECE]
            self._file.seek(self._at[name] + start * self._dtype.itemsize)
            piece.copy_(torch.frombuffer(bytearray(self._file.read(piece.nbytes)), dtype=self._dtype))
        return tensor.reshape(self.shapes[name])
