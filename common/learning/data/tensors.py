"""Studies as tensors: images and tokens ready for batches, so that the training loop decodes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.tokenizer import Tokenizer
from common.learning.records import Study


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch on its device.

    Attributes:
        images: float `[batch, 1, size, size]` in [0, 1].
        tokens: int64 `[batch, max_tokens]`.
        mask: int64 `[batch, max_tokens]`.
        labels: int64 `[batch]`.
        rows: int64 `[batch]`, positions in the `StudyTensors`, on the CPU.
    """

    images: Tensor
    tokens: Tensor
    mask: Tensor
    labels: Tensor
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


class StudyTensors:
    """Studies of one set: pixels as memory-mapped rows of the image cache, reports as token ids.

    Args:
        studies: in the order of the rows.
        cache: where their pixels are.
        tokenizer: for their reports.
        withdrawn: returns the patients to leave out from now on; called before every batch for training or scoring. It
            should return the same object while nothing changes, so that nothing is recomputed.
        branches: bool `[3, studies]`, in the order of `BRANCHES`: the branches on which a study is to be forgotten; a
            patient who revokes the use of images only keeps the text branch. None means all.
    """

    def __init__(
        self,
        studies: tuple[Study, ...],
        cache: ImageCache,
        tokenizer: Tokenizer,
        withdrawn: Callable[[], frozenset[str]] | None = None,
        branches: NDArray[np.bool_] | None = None,
    ) -> None:
        self.studies = studies
        self.tokenizer = tokenizer
        self._withdrawn = withdrawn
        self._pixels = [cache.fetch(s.image) for s in studies]
        tokens, mask = tokenizer.encode([s.report for s in studies])
        self.tokens, self.mask = torch.from_numpy(tokens), torch.from_numpy(mask)
        self.labels = torch.tensor([s.label for s in studies], dtype=torch.int64)
        self.branches = np.ones((3, len(studies)), dtype=np.bool_) if branches is None else branches
        numbers = {patient: number for number, patient in enumerate(dict.fromkeys(s.patient for s in studies))}
        self.patients = np.array([numbers[s.patient] for s in studies], dtype=np.int64)
        self._kept: tuple[frozenset[str], NDArray[np.bool_] | None] = frozenset(), None

    def __len__(self) -> int:
        return len(self.studies)

    def batch(self, rows: NDArray[np.int64], device: torch.device) -> Batch:
        """The studies at `rows`, on `device`; the copy overlaps with compute where memory can be pinned."""
        images = torch.from_numpy(np.stack([self._pixels[row] for row in rows]))[:, None]
        index = torch.from_numpy(rows)
        parts = [images, self.tokens[index], self.mask[index], self.labels[index]]
        if device.type == "cuda":
            parts = [part.pin_memory().to(device, non_blocking=True) for part in parts]
        pixels = parts[0].to(torch.float32).div_(255.0)
        if device.type == "cuda":
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        return Batch(pixels, parts[1], parts[2], parts[3], rows)

    def in_order(self, size: int, device: torch.device) -> Iterator[Batch]:
        """All studies in order, so that results computed once can be found by row."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self)), dtype=np.int64), device)

    def to_score(self, size: int, device: torch.device) -> Iterator[Batch]:
        """All studies in order; batches shrink or vanish where patients have withdrawn."""
        for start in range(0, len(self), size):
            rows = self._still_in(np.arange(start, min(start + size, len(self)), dtype=np.int64))
            if len(rows):
                yield self.batch(rows, device)

    def shuffled(self, size: int, device: torch.device, rng: np.random.Generator) -> Iterator[Batch]:
        """All studies once, in an order drawn from `rng`; batches shrink or vanish where patients have withdrawn."""
        order = rng.permutation(len(self)).astype(np.int64)

        for start in range(0, len(self), size):
            rows = self._still_in(order[start : start + size])
            if len(rows):
                yield self.batch(rows, device)

    def _still_in(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._withdrawn is None:
            return rows
        withdrawn = self._withdrawn()
        previous, mask = self._kept

        if withdrawn is not previous:
            still = np.array([study.patient not in withdrawn for study in self.studies], dtype=np.bool_)
            mask = None if still.all() else still
            self._kept = withdrawn, mask

        return rows if mask is None else rows[mask[rows]]
