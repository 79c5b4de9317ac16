"""Unlearning deltas of several sites become one, with conflicts projected out (`scaled`).

Under FedAvg a delta counts with its site's share p; scaled by 1/p it counts in full, so the sum of deltas is what is
added. Where two deltas conflict (negative inner product), each loses its part along the other, as in PCGrad (Yu et al.
2020, arXiv 2001.06782), in sorted order of sites and one tensor at a time.

All that PCGrad asks of k deltas is their inner products, so it runs on the k x k Gram matrix of each tensor. What it
leaves of each delta is a linear combination of them all; the deltas themselves are read twice, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.disk import unwritable
from common.errors import OutputError, WireError
from server.rounds.weights.layout import Slab, slabs

_SUFFIX = ".delta"
_MATRIX = 2**25
"""Bytes of the deltas that are in memory at once."""
_LEAST = 2**12
"""Elements of each delta that are read at once at least."""


class DeltaSpool:
    """Unlearning deltas on disk, one file of plain numbers a site."""

    def __init__(self, folder: Path) -> None:
        """What a run that was killed left in `folder` is deleted; its deltas are added anew.

        Raises:
            OutputError: the folder cannot be made or emptied.
        """
        self._folder = folder
        self._files: dict[str, Path] = {}

        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The second pattern is that of an earlier version.
            for pattern in (f"*{_SUFFIX}", f"*{_SUFFIX}.safetensors"):
                for leftover in folder.glob(pattern):
                    leftover.unlink()
        except OSError as err:
            raise _cannot_write(folder, err) from err

    def add(self, site: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
        """Keep one site's delta on disk.

        Raises:
            WireError: the site has one already.
            OutputError: the disk is full; nothing is kept of the delta then.
        """
        if site in self._files:
            raise WireError(f"{site} sent a second unlearned model")
        # By number, as a site's name comes from outside and need not be a file name.
        path = self._folder / f"{len(self._files)}{_SUFFIX}"
        dtype = _dtype(before)

        try:
            with path.open("wb", buffering=2**20) as file:
                for name in _moving(before):
                    delta = (after[name] - before[name]).to(dtype).contiguous()
                    if delta.numel():
                        file.write(delta.reshape(-1).numpy().data.cast("B"))
        except OSError as err:
            path.unlink(missing_ok=True)
            raise _cannot_write(self._folder, err) from err

        self._files[site] = path

    def apply(self, before: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`before` plus the deltas; the spool is emptied.

        Raises:
            WireError: there is none.
        """
        if not self._files:
            raise WireError("no unlearned model to apply")
        after = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in before.items()}
        files = [self._files[site] for site in sorted(self._files)]
        # First walk: the inner products of the deltas, for each tensor.
        grams: dict[str, NDArray[np.float64]] = {}

        for slab, deltas in _read(files, before):
            for part in slab.parts:
                columns = deltas[:, part.at : part.end]
                grams[part.name] = grams.get(part.name, 0.0) + (columns @ columns.T).astype(np.float64)

        # Second walk: the same deltas, weighed by what the projection left of each.
        weights = {name: project_conflicts(gram).astype(deltas.dtype) for name, gram in grams.items()}
        # They are read again rather than kept: in memory they would be as many models as sites forget.
        for slab, deltas in _read(files, before):
            for part in slab.parts:
                total = weights[part.name] @ deltas[:, part.at : part.end]
                after[part.name].view(-1)[part.start : part.stop].add_(torch.from_numpy(total))

        # Deltas derive from patients and are not needed once they are applied.
        for path in files:
            path.unlink()
        self._files.clear()

        return after


def project_conflicts(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of each delta is in the sum of all, each of them without its part along those it conflicts with.

    `gram` holds the inner products of the deltas, in the order in which they are projected; shape (k, k).
    """
    coefficients = np.eye(len(gram))

    for other, square in enumerate(np.diag(gram)):
        # Of what is left of every delta with this one, at once: no delta's way depends on what is left of another.
        inner = coefficients @ gram[:, other]
        against = inner < 0
        against[other] = False
        coefficients[against, other] -= inner[against] / square

    return np.asarray(coefficients.sum(axis=0))


def _moving(state: Mapping[str, Tensor]) -> list[str]:
    return [name for name, tensor in state.items() if tensor.is_floating_point()]


def _dtype(state: Mapping[str, Tensor]) -> torch.dtype:
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in state.values()) else torch.float32


def _read(files: Sequence[Path], before: Mapping[str, Tensor]) -> Iterator[tuple[Slab, NDArray[Any]]]:
    """The deltas as rows, slab by slab; the next one overwrites them."""
    dtype = np.float64 if _dtype(before) == torch.float64 else np.float32
    size = np.dtype(dtype).itemsize
    columns = max(_LEAST, _MATRIX // (size * len(files)))
    row = slabs(before, _moving(before), columns)
    matrix = np.empty((len(files), max(map(len, row), default=0)), dtype)

    for slab in row:
        deltas = matrix[:, : len(slab)]
        for number, path in enumerate(files):
            deltas[number] = np.fromfile(path, dtype, len(slab), offset=slab.begin * size)
        yield slab, deltas


def _cannot_write(folder: Path, err: Exception) -> OutputError:
    return unwritable(err, folder)
