"""The model card in a join bundle is that of the coordinator's campaigns: encoders are pinned by digest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from encoder_folders import SIDE, save_image, save_text

from common.errors import ConfigError
from common.learning.config import DataConfig, ExperimentConfig, ModelConfig
from common.learning.model.card import ModelCard
from server.membership.federation_card import card_json, federation_card
from server.settings import ServerSettings


def settings(model: ModelConfig, classes: tuple[str, ...] = ("clear", "opacity")) -> ServerSettings:
    return ServerSettings(
        hosts=("localhost",), classes=classes, experiment=ExperimentConfig(model=model, data=DataConfig())
    )


def test_the_card_of_a_bundle_pins_encoders_and_what_they_say_of_images_and_reports(tmp_path: Path) -> None:
    text = str(save_text(tmp_path / "text", "distilbert"))
    model = ModelConfig(
        image_encoder="folder",
        image_folder=str(save_image(tmp_path / "image", "resnet")),
        text_encoder="folder",
        text_folder=text,
        frozen="both",
    )
    card = ModelCard.model_validate_json(card_json(federation_card(settings(model), "server.toml")))
    assert card == card.pinned()
    assert all(len(digest) == 64 for digest in (card.image_encoder, card.text_encoder))
    assert (card.data.image_size, card.data.tokenizer) == (SIDE, text)


def test_without_encoders_of_folders_a_bundle_reads_as_before(tmp_path: Path) -> None:
    card = json.loads(card_json(federation_card(settings(ModelConfig()), "server.toml")))
    assert set(card) == {"model", "data", "classes", "vocab_size"}


def test_a_folder_without_an_encoder_is_refused_before_anybody_joins(tmp_path: Path) -> None:
    model = ModelConfig(image_encoder="folder", image_folder=str(tmp_path), frozen="image")
    with pytest.raises(ConfigError):
        federation_card(settings(model), "server.toml")
    with pytest.raises(ConfigError, match="at least two labels"):
        federation_card(settings(ModelConfig(), ("clear",)), "server.toml")
