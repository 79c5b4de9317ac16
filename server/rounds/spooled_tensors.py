"""Tensors that are needed again later but not now: in a temporary file without a name once they are large."""

from __future__ import annotations

import tempfile
import weakref

import torch
from torch import Tensor

from common.disk import unwritable

MEMORY = 2**26
"""Bytes that are kept in memory before a file is used."""
PIECE = 2**20
"""Elements that are worked on at once."""


def starts(tensor: Tensor) -> range:
    """Where its pieces begin."""
    return range(0, tensor.numel(), PIECE)


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

    def add(self, name: str, shape: torch.Size) -> None:
        """Room for a tensor, to be written piece by piece before it is read."""
        self._at[name], self.shapes[name] = self._end, shape
        self._end += shape.numel() * self._dtype.itemsize

    def read(self, name: str, start: int) -> Tensor:
        """The piece that begins at element `start`."""
        count = min(PIECE, self.shapes[name].numel() - start)
        self._file.seek(self._at[name] + start * self._dtype.itemsize)
        return torch.frombuffer(bytearray(self._file.read(count * self._dtype.itemsize)), dtype=self._dtype)

    def write(self, name: str, start: int, piece: Tensor) -> None:
        """Elements from `start` on."""
        try:
            self._file.seek(self._at[name] + start * self._dtype.itemsize)
            self._file.write(piece.numpy().tobytes())
        except OSError as err:
            raise unwritable(err, tempfile.gettempdir(), remedy="free space, or set TMPDIR") from None

    def put(self, name: str, tensor: Tensor) -> None:
        """A whole tensor."""
        if name not in self.shapes:
            self.add(name, tensor.shape)
        flat = tensor.reshape(-1)
        for start in starts(flat):
            self.write(name, start, flat[start : start + PIECE])

    def get(self, name: str) -> Tensor | None:
        """A whole tensor; None if there is none."""
        if name not in self.shapes:
            return None
        found = torch.empty(self.shapes[name].numel(), dtype=self._dtype)
        for start in starts(found):
            found[start : start + PIECE] = self.read(name, start)
        return found.reshape(self.shapes[name])
