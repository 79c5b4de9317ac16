"""The image-text model: two encoders, a fusion gate, a classifier on each of the three branches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.learning.config import DataConfig, ModelConfig
from common.learning.model.frozen import frozen_names
from common.learning.model.fusion import AdaptationGate
from common.learning.model.image_encoders import build_image_encoder
from common.learning.model.text_encoders import build_text_encoder


@dataclass(frozen=True, slots=True)
class Outputs:
    """Result of a forward pass; the first axis of both is image, text, fused.

    Attributes:
        embeddings: `[3, batch, embedding]`.
        logits: `[3, batch, classes]`.
    """

    embeddings: Tensor
    logits: Tensor


class ImageTextModel(nn.Module):
    """Late fusion of a radiograph and its report, after Chauhan et al. 2020 (arXiv 2008.09884)."""

    def __init__(self, config: ModelConfig, data: DataConfig, classes: int, vocab_size: int) -> None:
        super().__init__()
        self.image_encoder = build_image_encoder(config, data.image_size)
        self.text_encoder = build_text_encoder(config, vocab_size, data.max_tokens)
        self.fusion = AdaptationGate(config.embedding, config.fusion_beta, config.dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.classifiers = nn.ModuleList(nn.Linear(config.embedding, classes) for _ in range(3))

    def forward(self, images: Tensor, tokens: Tensor, mask: Tensor) -> Outputs:
        """Images `[batch, 1, h, w]` in [0, 1], ids and mask `[batch, tokens]`."""
        image = self.image_encoder(images)
        text = self.text_encoder(tokens, mask)
        embeddings = torch.stack([image, text, self.fusion(image, text)])
        logits = torch.stack([head(self.dropout(e)) for head, e in zip(self.classifiers, embeddings, strict=True)])

        return Outputs(embeddings, logits)


def build_model(config: ModelConfig, data: DataConfig, classes: int, vocab_size: int, seed: int) -> ImageTextModel:
    """A freshly initialised model; the same seed gives the same weights and leaves the global generator as it was.

    Frozen layers are those of seed 0 whatever the seed, so that every site has them without receiving any.
    """
    # No device: a model is drawn on the CPU, so that all machines get the same weights.
    with torch.random.fork_rng(devices=[]):
        # Not `torch.manual_seed`, which also notes a seed for each kind of accelerator, and why.
        torch.default_generator.manual_seed(seed)
        model = ImageTextModel(config, data, classes, vocab_size)

    if config.freezes_layers:
        _freeze(model, model if seed == 0 else build_model(config, data, classes, vocab_size, 0), config)
    return model


def _freeze(model: ImageTextModel, like: ImageTextModel, config: ModelConfig) -> None:
    theirs = like.state_dict()
    frozen = frozen_names(theirs, config)
    model.load_state_dict({name: theirs[name] for name in frozen}, strict=False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
