from __future__ import annotations

from pathlib import Path

import pytest

from common.config import DataConfig, ModelConfig
from common.model.image_text import build_model


def test_a_local_text_encoder_can_be_cut_to_its_first_layers_and_draws_no_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=60, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    capsys.readouterr()
    wanted = ModelConfig(text_encoder="transformers", text_folder=str(tmp_path), text_layers=2, width=4, embedding=8)
    model = build_model(wanted, DataConfig(image_size=32, max_tokens=16), 2, 60, 0)
    layers = {n.split("layer.")[1].split(".")[0] for n in model.state_dict() if "encoder.layer." in n}
    assert layers == {"0", "1"}
    assert capsys.readouterr().err == ""
