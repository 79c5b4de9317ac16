"""Fusion of the two embeddings by a multimodal adaptation gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AdaptationGate(nn.Module):
    """Shift the text embedding by a gated image embedding (Rahman et al. 2020, arXiv 1908.05787, section 4).

    The shift is at most `beta` times as long as the text embedding, so that neither modality can drown the other.
    It is trained with the model and copied with it, never drawn anew.
    """

    def __init__(self, embedding: int, beta: float, dropout: float) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * embedding, embedding)
        self.shift = nn.Linear(embedding, embedding)
        self.norm = nn.LayerNorm(embedding)
        self.dropout = nn.Dropout(dropout)
        self.beta = beta

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Two `[batch, embedding]` to one `[batch, embedding]`."""
        shift = torch.relu(self.gate(torch.cat([text, image], dim=1))) * self.shift(image)
        # The floor keeps a shift of 0, which a closed gate gives, from dividing by 0.
        ratio = text.norm(dim=1, keepdim=True) / shift.norm(dim=1, keepdim=True).clamp_min(1e-6)
        return torch.as_tensor(self.dropout(self.norm(text + (ratio * self.beta).clamp(max=1.0) * shift)))
