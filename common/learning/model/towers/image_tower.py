"""An image encoder of a folder: pixels to one row of features an image."""

from __future__ import annotations

from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from common.learning.model.towers.backbone import load_network
from common.learning.model.towers.families import TIMM
from common.learning.model.towers.folder import EncoderFolder
from common.learning.model.towers.preprocessing import Pixels

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class ImageTower(nn.Module):
    """`[batch, 1, h, w]` in [0, 1] to `[batch, width]`, normalised as the folder says, the grey channel repeated.

    Batch norms keep the statistics of the folder: those of a hospital's small batches do not federate.
    """

    def __init__(self, encoder: EncoderFolder) -> None:
        super().__init__()
        pixels = encoder.pixels or Pixels(None, 1.0, (0.0,) * encoder.channels, (1.0,) * encoder.channels)
        self.network = load_network(encoder)
        self.width = encoder.width
        self.scale = pixels.scale
        self._kind = encoder.kind
        self._pooling = encoder.pooling
        # Not persistent: the encoder's digest pins them, and they are no weights that travel.
        self.register_buffer("mean", torch.tensor(pixels.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(pixels.std).view(1, -1, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Training mode, batch norms left out."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BATCH_NORMS):
                module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """The features."""
        inputs = (images * self.scale - cast(Tensor, self.mean)) / cast(Tensor, self.std)
        if self._kind == TIMM:
            return cast(Tensor, self.network(inputs))
        outputs: Any = self.network(pixel_values=inputs)
        if self._pooling == "pooler":
            return cast(Tensor, outputs.pooler_output).flatten(1)

        hidden: Tensor = outputs.last_hidden_state
        # A CNN gives maps, a transformer a row of tokens.
        if hidden.ndim == 4:
            return hidden.mean(dim=(2, 3))
        return hidden[:, 0] if self._pooling == "class token" else hidden.mean(dim=1)
