"""A text encoder of a folder: token ids to one row of features a report."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from common.learning.model.towers.backbone import load_network
from common.learning.model.towers.families import TEXT
from common.learning.model.towers.folder import EncoderFolder


class TextTower(nn.Module):
    """`[batch, tokens]` ids and mask to `[batch, width]`, pooled as the folder says."""

    def __init__(self, encoder: EncoderFolder) -> None:
        super().__init__()
        self.network = load_network(encoder)
        self.width = encoder.width
        self.needs_all_tokens = TEXT[encoder.kind].needs_all_tokens
        self._pooling = encoder.pooling
        self._unit = encoder.unit

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The features."""
        network: Any = self.network
        outputs = network(input_ids=tokens, attention_mask=None if self.needs_all_tokens else mask)
        features = self._pooled(outputs, mask)

        return normalize(features, dim=1) if self._unit else features

    def _pooled(self, outputs: Any, mask: Tensor) -> Tensor:
        if self._pooling == "pooler":
            return cast(Tensor, outputs.pooler_output)
        hidden: Tensor = outputs.last_hidden_state
        if self._pooling == "class token":
            return hidden[:, 0]

        real = mask[..., None].to(hidden.dtype)
        if self._pooling == "max":
            # Padding gets the least number, or a maximum could be that of a padded position.
            return hidden.masked_fill(real == 0, torch.finfo(hidden.dtype).min).amax(dim=1)
        return (hidden * real).sum(dim=1) / real.sum(dim=1).clamp_min(1)
