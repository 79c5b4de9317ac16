"""Features of a site's studies: from the cache, or made by the frozen towers, one study at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.learning.data.embedding_cache import EmbeddingCache
from common.learning.data.imaging.image_cache import TRANSFORM, ImageCache
from common.learning.data.tokenizer import Tokenizer
from common.learning.model.towers.frozen_tower import FrozenTower
from common.learning.records import Study


@dataclass(frozen=True, slots=True)
class StudyEmbeddings:
    """Gives features of studies.

    A study is encoded alone, never in a batch: the bits of its features must not depend on who else is there, or a
    federation that never had a patient would differ in the last bits from one that has forgotten them.

    Attributes:
        cache: where features are kept.
        pixels: where radiographs are read from.
        tokenizer: for reports.
        image: the frozen image tower, or None if images are encoded by the model.
        text: likewise for reports.
        device: that the towers run on.
    """

    cache: EmbeddingCache
    pixels: ImageCache
    tokenizer: Tokenizer
    image: FrozenTower | None
    text: FrozenTower | None
    device: torch.device

    def of_images(self, studies: Sequence[Study]) -> Tensor | None:
        """Features `[studies, width]` of their images.

        Raises:
            ImageError: an image cannot be read.
            OutputError: a row cannot be written.
        """
        if self.image is None:
            return None
        tower = self.image

        def encode(study: Study) -> Tensor:
            image = torch.from_numpy(np.array(self.pixels.fetch(study.image)))[None, None]
            return tower.features(image.to(self.device, torch.float32).div_(255.0))

        name = self.names()[0]
        return self._rows(studies, lambda s: self.pixels.digest(s.image), name, tower.encoder.width, encode)

    def of_reports(self, studies: Sequence[Study]) -> Tensor | None:
        """Features `[studies, width]` of their reports.

        Raises:
            OutputError: a row cannot be written.
        """
        if self.text is None:
            return None
        tower = self.text

        def encode(study: Study) -> Tensor:
            tokens, mask = self.tokenizer.encode([study.report])
            return tower.features(torch.from_numpy(tokens).to(self.device), torch.from_numpy(mask).to(self.device))

        name = self.names()[1]
        return self._rows(studies, lambda s: self.cache.key_of_report(s.report), name, tower.encoder.width, encode)

    def names(self) -> tuple[str, str]:
        """What the cache calls the image and the text encoder, with what else their features depend on."""
        image = self.image.encoder.digest if self.image else ""
        text = self.text.encoder.digest if self.text else ""
        # Another size or another number of tokens gives other features: they must not be found under this name.
        return _name(image, TRANSFORM, self.pixels.size), _name(text, self.tokenizer.max_tokens)

    def _rows(
        self,
        studies: Sequence[Study],
        key_of: Callable[[Study], str],
        encoder: str,
        width: int,
        encode: Callable[[Study], Tensor],
    ) -> Tensor:
        rows = np.empty((len(studies), width), dtype=np.float32)

        for at, study in enumerate(studies):
            key = key_of(study)
            row: NDArray[np.float32] | None = self.cache.fetch(key, encoder, width)
            if row is None:
                row = encode(study)[0].cpu().numpy()
                self.cache.put(key, encoder, row)
            rows[at] = row

        return torch.from_numpy(rows)


def _name(*parts: object) -> str:
    """Names an encoder together with what else its features depend on."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()
