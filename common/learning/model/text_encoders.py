"""Text encoders: token ids of reports to embeddings of the [CLS] token."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from common.errors import ConfigError
from common.learning.config import ModelConfig
from common.learning.model.folder_encoders import FolderTextEncoder
from common.learning.model.pretrained import TEXT, load_backbone, try_once


class BertEncoder(nn.Module):
    """A BERT, its [CLS] vector mapped linearly to `[batch, embedding]`."""

    def __init__(self, bert: nn.Module, hidden: int, embedding: int) -> None:
        super().__init__()
        self.bert = bert
        self.project = nn.Linear(hidden, embedding)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """`[batch, tokens]` ids and mask to `[batch, embedding]`."""
        hidden = self.bert(input_ids=tokens, attention_mask=mask).last_hidden_state
        return cast(Tensor, self.project(hidden[:, 0]))


class WordsEncoder(nn.Module):
    """A linear map of hashed words, each weighted by 1 + log of its count, reports scaled to length 1."""

    def __init__(self, buckets: int, embedding: int) -> None:
        super().__init__()
        self.words = nn.Embedding(buckets, embedding, padding_idx=0)
        nn.init.normal_(self.words.weight, std=0.1)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """`[batch, words]` buckets and counts to `[batch, embedding]`."""
        weights = torch.where(mask > 0, 1.0 + mask.clamp_min(1).float().log(), 0.0)
        weights = weights / weights.norm(dim=1, keepdim=True).clamp_min(1e-6)
        return torch.einsum("nw,nwe->ne", weights, self.words(tokens))


def build_text_encoder(config: ModelConfig, vocab_size: int, max_tokens: int) -> nn.Module:
    """The encoder that `config.text_encoder` names.

    Raises:
        ConfigError: the local folder holds no BERT-like model, or one of fewer tokens, positions or layers.
    """
    if config.text_encoder == "small_bert":
        from transformers import BertConfig, BertModel  # noqa: PLC0415 - seconds of import, only when building

        bert = BertModel(
            BertConfig(
                vocab_size=vocab_size,
                hidden_size=config.text_hidden,
                num_hidden_layers=config.text_layers,
                num_attention_heads=config.text_heads,
                intermediate_size=4 * config.text_hidden,
                max_position_embeddings=max_tokens,
                type_vocab_size=1,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=config.dropout,
            ),
            add_pooling_layer=False,
        )
        return BertEncoder(bert, config.text_hidden, config.embedding)

    if config.text_encoder == "words":
        return WordsEncoder(vocab_size, config.embedding)
    if config.text_encoder == "folder":
        return FolderTextEncoder(config)
    return _from_folder(config, vocab_size, max_tokens)


def _from_folder(config: ModelConfig, vocab_size: int, max_tokens: int) -> BertEncoder:
    folder = Path(config.text_folder)
    bert: Any = load_backbone(folder, TEXT, add_pooling_layer=False)
    layers = getattr(getattr(bert, "encoder", None), "layer", None)

    if layers is None:
        raise ConfigError(
            f"not a BERT-like transformers model: {bert.config.model_type}",
            where=str(folder),
            remedy="give a folder of a BERT, e.g. SciBERT",
        )

    for name, count in (("text_layers", config.text_layers), ("frozen_text_layers", config.frozen_text_layers)):
        if count > len(layers):
            raise ConfigError(
                f"the encoder has {len(layers)} layers, model.{name} is {count}",
                where=str(folder),
                remedy=f"lower model.{name}; model.text_layers = 0 keeps all",
            )

    rows = int(getattr(bert.config, "vocab_size", None) or 0)
    if rows < vocab_size:
        raise ConfigError(
            f"the encoder knows {rows} tokens, the tokenizer gives {vocab_size}",
            where=str(folder),
            remedy=f"set data.tokenizer = {str(folder)!r}",
        )

    bert.encoder.layer = layers[: config.text_layers or len(layers)]
    encoder = BertEncoder(bert, int(bert.config.hidden_size), config.embedding)
    positions = getattr(bert.config, "max_position_embeddings", None)
    error = ConfigError(
        f"{bert.config.model_type} cannot read reports of {max_tokens} tokens",
        where=str(folder),
        remedy=f"lower data.max_tokens (the model has {positions} positions), or give a BERT",
    )
    # The largest id and the full length: whatever does not fit fails here and not in training.
    ones = torch.ones(1, max_tokens, dtype=torch.long)
    try_once(encoder, lambda: (torch.full_like(ones, vocab_size - 1), ones), (str(folder), str(max_tokens)), error)

    return encoder
