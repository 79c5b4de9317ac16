from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import ConfigError
from common.learning.config import DataConfig, ModelConfig
from common.learning.model.image_encoders import build_image_encoder
from common.learning.model.image_text import build_model
from common.learning.model.text_encoders import build_text_encoder


def test_a_local_text_encoder_can_be_cut_to_its_first_layers_and_draws_no_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=60, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    capsys.readouterr()
    cut = ModelConfig(text_encoder="transformers", text_folder=str(tmp_path), text_layers=2, width=4, embedding=8)
    model = build_model(cut, DataConfig(image_size=32, max_tokens=16), 2, 60, 0)
    found = {n.split("layer.")[1].split(".")[0] for n in model.state_dict() if "encoder.layer." in n}
    assert found == {"0", "1"}
    assert capsys.readouterr().err == ""


def save_bert(folder: Path, **shape: int) -> None:
    from transformers import BertConfig, BertModel

    sizes: dict[str, Any] = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    BertModel(BertConfig(intermediate_size=32, **{**sizes, **shape}), add_pooling_layer=False).save_pretrained(folder)


def wanted(folder: Path, **settings: Any) -> ModelConfig:
    return ModelConfig(text_encoder="transformers", text_folder=str(folder), width=4, embedding=8, **settings)


def layers(config: ModelConfig, vocab_size: int = 60, max_tokens: int = 16) -> int:
    return len(build_text_encoder(config, vocab_size, max_tokens).bert.encoder.layer)  # type: ignore[union-attr,arg-type]


def test_a_local_text_encoder_keeps_all_its_layers_unless_told_otherwise(tmp_path: Path) -> None:
    save_bert(tmp_path, num_hidden_layers=12)
    assert layers(wanted(tmp_path)) == 12
    assert layers(wanted(tmp_path, text_layers=5)) == 5
    assert layers(wanted(tmp_path, frozen_text_layers=4)) == 12


def test_the_small_bert_has_two_layers_as_before() -> None:
    assert ModelConfig().text_layers == ModelConfig(text_layers=0).text_layers == 2
    assert ModelConfig.model_validate_json(ModelConfig().model_dump_json()) == ModelConfig()


@pytest.mark.parametrize("settings", [{"text_layers": 4}, {"frozen_text_layers": 4}])
def test_more_layers_than_the_folder_has_are_one_clear_line(tmp_path: Path, settings: dict[str, int]) -> None:
    save_bert(tmp_path)
    with pytest.raises(ConfigError, match=f"has 3 layers, model.{next(iter(settings))} is 4.*keeps all"):
        layers(wanted(tmp_path, **settings))


def test_a_tokenizer_with_more_tokens_than_the_encoder_is_one_clear_line(tmp_path: Path) -> None:
    save_bert(tmp_path)
    with pytest.raises(ConfigError, match=r"knows 60 tokens, the tokenizer gives 61.*data.tokenizer"):
        layers(wanted(tmp_path), vocab_size=61)


def test_reports_longer_than_the_encoder_reads_are_one_clear_line(tmp_path: Path) -> None:
    save_bert(tmp_path, max_position_embeddings=32)
    assert layers(wanted(tmp_path), max_tokens=32) == 3
    with pytest.raises(ConfigError, match=r"cannot read reports of 33 tokens.*has 32 positions"):
        layers(wanted(tmp_path), max_tokens=33)


@pytest.mark.parametrize("kind", ["clip", "siglip", "vit", "gpt2", "timm", "pickle", "garbage", "nothing", "shape"])
def test_a_folder_of_another_kind_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    save_folder(tmp_path, kind)
    with pytest.raises(ConfigError) as caught:
        layers(wanted(tmp_path))
    assert caught.value.where == str(tmp_path)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    if kind in ("clip", "siglip"):
        assert f"{kind} reads images and texts" in str(caught.value)
    if kind == "timm":
        assert "needs timm" in str(caught.value)


@pytest.mark.parametrize("kind", ["clip", "siglip", "bert", "gpt2", "timm", "pickle", "garbage", "nothing", "shape"])
def test_an_image_folder_of_another_kind_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    save_folder(tmp_path, kind)
    config = ModelConfig(image_encoder="transformers", image_folder=str(tmp_path), embedding=8)
    with pytest.raises(ConfigError) as caught:
        build_image_encoder(config, 32)
    assert caught.value.where == str(tmp_path)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_part_that_the_remedy_saves_is_read(tmp_path: Path, kind: str) -> None:
    from transformers import AutoModel

    save_folder(tmp_path / "both", kind)
    AutoModel.from_pretrained(tmp_path / "both").vision_model.save_pretrained(tmp_path / "part")
    encoder = build_image_encoder(
        ModelConfig(image_encoder="transformers", image_folder=str(tmp_path / "part"), embedding=8), 32
    )
    assert encoder(torch.rand(2, 1, 32, 32)).shape == (2, 8)
    assert encoder.has_class_token == (kind == "clip")


@pytest.mark.parametrize("kind", ["vit", "clip-vision", "siglip-vision"])
def test_another_image_size_than_the_folder_reads_names_the_right_one(tmp_path: Path, kind: str) -> None:
    save_folder(tmp_path, kind)
    config = ModelConfig(image_encoder="transformers", image_folder=str(tmp_path), embedding=8)
    build_image_encoder(config, 32)
    with pytest.raises(ConfigError, match=r"images of 64 x 64; it is made for 32 .*data.image_size = 32"):
        build_image_encoder(config, 64)


def save_folder(folder: Path, kind: str) -> None:
    import transformers as hf

    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    vision: dict[str, Any] = {**shape, "image_size": 32, "patch_size": 16}
    folder.mkdir(exist_ok=True)

    match kind:
        case "bert":
            save_bert(folder)
        case "clip":
            hf.CLIPModel(hf.CLIPConfig(text_config={**shape, "vocab_size": 60}, vision_config=vision)).save_pretrained(
                folder
            )
        case "siglip":
            text = {**shape, "vocab_size": 60}
            hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
        case "clip-vision":
            hf.CLIPVisionModel(hf.CLIPVisionConfig(**vision)).save_pretrained(folder)
        case "siglip-vision":
            hf.SiglipVisionModel(hf.SiglipVisionConfig(**vision)).save_pretrained(folder)
        case "vit":
            hf.ViTModel(hf.ViTConfig(**vision), add_pooling_layer=False).save_pretrained(folder)
        case "gpt2":
            config = hf.GPT2Config(vocab_size=60, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
            hf.GPT2Model(config).save_pretrained(folder)
        case "timm":
            card = '{"architecture": "resnet18", "num_classes": 0, "num_features": 512, "pretrained_cfg": {}}'
            (folder / "config.json").write_text(card)
        case "pickle":
            save_bert(folder)
            (folder / "model.safetensors").unlink()
            torch.save({}, folder / "pytorch_model.bin")
        case "garbage":
            save_bert(folder)
            (folder / "model.safetensors").write_bytes(b"no weights")
        case "shape":
            save_bert(folder / "other", hidden_size=32)
            save_bert(folder)
            (folder / "other" / "model.safetensors").replace(folder / "model.safetensors")
