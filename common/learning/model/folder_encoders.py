"""The model's encoders on top of a folder's tower: its features, brought to one scale, mapped to the embedding."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from torch import Tensor, nn

from common.learning.config import ModelConfig
from common.learning.model.towers.folder import read_folder
from common.learning.model.towers.frozen_tower import FrozenTower
from common.learning.model.towers.image_tower import ImageTower
from common.learning.model.towers.text_tower import TextTower


class FolderImageEncoder(nn.Module):
    """Radiographs `[batch, 1, h, w]` in [0, 1], or features `[batch, width]` of them, to `[batch, embedding]`.

    A frozen tower is no part of the model's weights.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        encoder = read_folder(Path(config.image_folder), "image")
        self.frozen = FrozenTower(encoder) if config.freezes("image") else None
        self.tower = None if self.frozen else ImageTower(encoder)
        self.project = _head(encoder.width, config.embedding)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        if images.ndim == 2:
            return cast(Tensor, self.project(images))
        features = self.frozen.features(images) if self.frozen else cast(ImageTower, self.tower)(images)
        return cast(Tensor, self.project(features))


class FolderTextEncoder(nn.Module):
    """Ids and mask `[batch, tokens]`, or features, float `[batch, width]`, to `[batch, embedding]`.

    A frozen tower is no part of the model's weights.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        encoder = read_folder(Path(config.text_folder), "text")
        self.frozen = FrozenTower(encoder) if config.freezes("text") else None
        self.tower = None if self.frozen else TextTower(encoder)
        self.project = _head(encoder.width, config.embedding)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        if tokens.is_floating_point():
            return cast(Tensor, self.project(tokens))
        features = self.frozen.features(tokens, mask) if self.frozen else cast(TextTower, self.tower)(tokens, mask)
        return cast(Tensor, self.project(features))


def _head(width: int, embedding: int) -> nn.Module:
    # Without weights of its own: encoders differ in the scale of their features by a factor of a hundred.
    return nn.Sequential(nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, embedding))
