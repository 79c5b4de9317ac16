"""A tower that is never trained: kept outside the model, one of each in a process, loaded when it is first needed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from common.learning.model.towers.folder import EncoderFolder
from common.learning.model.towers.image_tower import ImageTower
from common.learning.model.towers.text_tower import TextTower

_CPU = torch.device("cpu")


class FrozenTower:
    """Features of a frozen encoder. It is no module: a model that holds one neither trains, saves nor sends it."""

    def __init__(self, encoder: EncoderFolder) -> None:
        self.encoder = encoder

    def __deepcopy__(self, _memo: dict[int, Any]) -> FrozenTower:
        # A teacher copied from the model uses the same tower: it is never trained, and may be gigabytes.
        return self

    @torch.no_grad()
    def features(self, *inputs: Tensor) -> Tensor:
        """Features `[batch, width]`, float32, of pixels, or of tokens and mask, on their device."""
        return torch.as_tensor(loaded(self.encoder, inputs[0].device)(*inputs)).float()


@lru_cache(maxsize=4)
def loaded(encoder: EncoderFolder, device: torch.device = _CPU) -> nn.Module:
    """The encoder's tower in eval mode, without gradients; shared, so never to be changed.

    Raises:
        ConfigError: the weights are damaged, lack tensors, or are of another shape.
    """
    tower = ImageTower(encoder) if encoder.reads == "image" else TextTower(encoder)
    return tower.eval().requires_grad_(False).to(device)
