"""Studies as tensors: images and tokens ready for batches, so that the training loop decodes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.study_embeddings import StudyEmbeddings
from common.learning.data.tokenizer import Tokenizer
from common.learning.records import Study


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch on its device.

    With a frozen tower, features take the place of its inputs; a model tells them apart by shape and type.

    Attributes:
        images: float `[batch, 1, size, size]` in [0, 1], or features of images, `[batch, width]`.
        tokens: int64 `[batch, max_tokens]`, or features of reports, float `[batch, width]`.
        mask: int64 `[batch, max_tokens]`; `[batch, 1]` beside features.
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
        embeddings: gives the features of frozen towers; without it the model encodes all its inputs itself.
    """

    def __init__(
        self,
        studies: tuple[Study, ...],
        cache: ImageCache,
        tokenizer: Tokenizer,
        withdrawn: Callable[[], frozenset[str]] | None = None,
        branches: NDArray[np.bool_] | None = None,
        embeddings: StudyEmbeddings | None = None,
    ) -> None:
        self.studies = studies
        self.tokenizer = tokenizer
        self._withdrawn = withdrawn
        self._cache = cache
        self._image_features = None if embeddings is None else embeddings.of_images(studies)
        self._pixels = [cache.fetch(s.image) for s in studies] if self._image_features is None else []
        self.tokens, self.mask = self._read_reports(embeddings)
        self.labels = torch.tensor([s.label for s in studies], dtype=torch.int64)
        self.branches = np.ones((3, len(studies)), dtype=np.bool_) if branches is None else branches
        numbers = {patient: number for number, patient in enumerate(dict.fromkeys(s.patient for s in studies))}
        self.patients = np.array([numbers[s.patient] for s in studies], dtype=np.int64)
        self._last_mask: tuple[frozenset[str], NDArray[np.bool_] | None] = frozenset(), None

    def __len__(self) -> int:
        return len(self.studies)

    def batch(self, rows: NDArray[np.int64], device: torch.device) -> Batch:
        """The studies at `rows`, on `device`; the copy overlaps with compute where memory can be pinned."""
        index = torch.from_numpy(rows)
        features = self._image_features
        images = self.pixels(rows, device) if features is None else _on(features[index], device)

        return Batch(
            images,
            _on(self.tokens[index], device),
            _on(self.mask[index], device),
            _on(self.labels[index], device),
            rows,
        )

    def pixels(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """The radiographs at `rows`, float `[rows, 1, size, size]` in [0, 1], also where batches hold features."""
        maps = [self._pixels[row] if self._pixels else self._cache.fetch(self.studies[row].image) for row in rows]
        # Converted on the device: a quarter of the bytes travel to it.
        pixels = _on(torch.from_numpy(np.stack(maps))[:, None], device).to(torch.float32).div_(255.0)
        # Convolutions on a GPU are faster with channels last.
        return pixels.contiguous(memory_format=torch.channels_last) if device.type == "cuda" else pixels

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

    def _read_reports(self, embeddings: StudyEmbeddings | None) -> tuple[Tensor, Tensor]:
        features = None if embeddings is None else embeddings.of_reports(self.studies)
        if features is not None:
            return features, torch.ones(len(features), 1, dtype=torch.int64)
        tokens, mask = self.tokenizer.encode([study.report for study in self.studies])

        return torch.from_numpy(tokens), torch.from_numpy(mask)

    def _still_in(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._withdrawn is None:
            return rows
        withdrawn = self._withdrawn()
        previous, mask = self._last_mask

        # Compared by identity: a set of a million patients is not compared before each batch.
        if withdrawn is not previous:
            still = np.array([study.patient not in withdrawn for study in self.studies], dtype=np.bool_)
            mask = None if still.all() else still
            self._last_mask = withdrawn, mask

        return rows if mask is None else rows[mask[rows]]


def _on(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
