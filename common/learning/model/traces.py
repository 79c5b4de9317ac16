"""Find files that still hold given weights, under any name: shows that no weights that remember were left behind."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from common.learning.model.checkpoint import state_digest

# Bytes of a piece: 16 single-precision weights, a sequence that no other model has.
_PIECE = 64


def find_weights(folder: Path, digests: Collection[str]) -> list[Path]:
    """Files below `folder` whose SHA-256, or whose weights' `state_digest`, is one of `digests`; links not followed."""
    targets = frozenset(digests)
    return [path for path in _files(folder) if _sha256(path) in targets or _weights_digest(path) in targets]


def find_pieces(folder: Path, state: Mapping[str, Tensor]) -> list[Path]:
    """Files below `folder` that contain bytes of these tensors, including databases, archives and truncated files.

    Give it only tensors that differ from those of a model that may stay. Tensors of fewer than 16 distinct weights,
    as biases of zeros, say nothing and are passed over.
    """
    pieces = {piece for tensor in state.values() for piece in _pieces(tensor)}
    return [path for path in _files(folder) if _holds(path, pieces)]


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weights_digest(path: Path) -> str | None:
    """Digest of a safetensors file's weights, None for any other file."""
    with path.open("rb") as file:
        start = file.read(9)
    # The length of the header in 8 bytes, then JSON: https://github.com/huggingface/safetensors#format
    if len(start) < 9 or start[8:] != b"{" or int.from_bytes(start[:8], "little") > path.stat().st_size:
        return None
    try:
        return state_digest(load_file(path))
    except (SafetensorError, ValueError):
        return None


def _pieces(tensor: Tensor) -> Iterator[bytes]:
    """Pieces from the start, the middle and the end, as a database may split a tensor anywhere."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    count = _PIECE // flat.element_size()

    for at in {0, max(0, len(flat) // 2 - count // 2), max(0, len(flat) - count)}:
        part = flat[at : at + count]
        if len(torch.unique(part)) == count:
            yield part.view(torch.uint8).numpy().tobytes()


def _holds(path: Path, pieces: Collection[bytes]) -> bool:
    if not path.stat().st_size:
        return False
    # Mapped and not read: a backup may be larger than memory.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(piece) >= 0 for piece in pieces)
