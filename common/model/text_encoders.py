"""Text encoders: token ids of reports to embeddings of the [CLS] token."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from torch import Tensor, nn

from common.config import ModelConfig
from common.errors import ConfigError


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


def build_text_encoder(config: ModelConfig, vocab_size: int, max_tokens: int) -> nn.Module:
    """The encoder that `config.text_encoder` names.

    Raises:
        ConfigError: the local folder holds no BERT-like model.
    """
    from transformers import AutoModel, BertConfig, BertModel  # noqa: PLC0415 - seconds of import, only when building
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415 - as above

    if config.text_encoder == "small_bert":
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
    folder = Path(config.text_folder)
    disable_progress_bar()  # type: ignore[no-untyped-call]  # it would be drawn for each model, across ours
    try:
        bert = AutoModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=False)
        bert.encoder.layer = bert.encoder.layer[: config.text_layers]
    except (OSError, ValueError, TypeError, AttributeError) as err:
        raise ConfigError(
            "not a BERT-like transformers model", where=str(folder), remedy="give a local folder"
        ) from err
    return BertEncoder(bert, int(bert.config.hidden_size), config.embedding)
