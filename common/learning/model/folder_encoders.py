"""The model's encoders on top of a folder's tower: its features, brought to one scale, mapped to the embedding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from common.errors import ConfigError
from common.learning.config import ModelConfig
from common.learning.model.frozen import layers_of
from common.learning.model.towers.adapters import AdaptedTower
from common.learning.model.towers.families import Reads
from common.learning.model.towers.folder import EncoderFolder, read_folder
from common.learning.model.towers.frozen_tower import FrozenTower
from common.learning.model.towers.image_tower import ImageTower
from common.learning.model.towers.text_tower import TextTower


class FolderEncoder(nn.Module):
    """Inputs of a folder's tower, or its features, to `[batch, embedding]`.

    A tower that is trained is part of the model. One that is frozen is not, and of one with adapters only these are.
    """

    def __init__(self, config: ModelConfig, reads: Reads) -> None:
        super().__init__()
        encoder = read_folder(Path(config.image_folder if reads == "image" else config.text_folder), reads)
        self.frozen = FrozenTower(encoder) if config.freezes(reads) else None
        self.adapted = (
            AdaptedTower(encoder, config.adapter_rank, config.adapter_alpha) if config.adapts(reads) else None
        )
        self.tower = None if self.frozen or self.adapted else _tower(encoder)
        if self.tower is not None:
            _check_layers(self.tower, config, encoder)
        self.adapters = nn.ParameterDict(self.adapted.adapters if self.adapted else {})
        # Without weights of its own: encoders differ in the scale of their features by a factor of a hundred.
        norm = nn.LayerNorm(encoder.width, elementwise_affine=False)
        self.project = nn.Sequential(norm, nn.Linear(encoder.width, config.embedding))

    def train(self, mode: bool = True) -> Self:
        """Training mode, also of a tower that only its adapters are trained of."""
        super().train(mode)
        # The tower is outside of the module tree, so `train` does not reach it.
        if self.adapted:
            self.adapted.tower.train(mode)
        return self

    def embed(self, *inputs: Tensor) -> Tensor:
        """Embeddings of the tower's inputs."""
        if self.frozen:
            return self.of_features(self.frozen.features(*inputs))
        tower: Any = self.adapted.tower if self.adapted else self.tower
        return self.of_features(tower(*inputs))

    def of_features(self, features: Tensor) -> Tensor:
        """Embeddings of features `[batch, width]`."""
        return cast(Tensor, self.project(features))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        # Likewise `to` and `cuda`: they go through `_apply`, and the tower must follow the model to its device.
        if self.adapted:
            self.adapted.convert(fn)
        return self


class FolderImageEncoder(FolderEncoder):
    """Radiographs `[batch, 1, h, w]` in [0, 1], or features `[batch, width]` of them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, "image")

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return self.of_features(images) if images.ndim == 2 else self.embed(images)


class FolderTextEncoder(FolderEncoder):
    """Ids and mask `[batch, tokens]`, or features, float `[batch, width]`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, "text")

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        return self.of_features(tokens) if torch.is_floating_point(tokens) else self.embed(tokens, mask)


def _check_layers(tower: nn.Module, config: ModelConfig, encoder: EncoderFolder) -> None:
    """Raise a `ConfigError` if more layers are to be frozen than there are."""
    wanted = config.frozen_image_layers if encoder.reads == "image" else config.frozen_text_layers
    layers = len(layers_of(tower.state_dict())) if wanted else 0
    if wanted > layers:
        setting = f"model.frozen_{encoder.reads}_layers"
        raise ConfigError(
            f"the encoder has {layers} layers, {setting} is {wanted}",
            where=str(encoder.folder),
            remedy=f'lower {setting}, or freeze the whole encoder: model.frozen = "{encoder.reads}"',
        )


def _tower(encoder: EncoderFolder) -> nn.Module:
    return ImageTower(encoder) if encoder.reads == "image" else TextTower(encoder)
