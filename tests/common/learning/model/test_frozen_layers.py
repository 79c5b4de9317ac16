"""The first layers of an encoder from a folder are frozen: never trained, never sent, the same at every hospital."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from encoder_folders import save_image, save_text

from common.errors import ConfigError
from common.learning.config import DataConfig, ModelConfig, TrainConfig
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.tensors import StudyTensors
from common.learning.data.tokenizer import load_tokenizer
from common.learning.model.card import ModelCard
from common.learning.model.frozen import first_layers, layers_of
from common.learning.records import Cohort
from common.learning.training import fit


def card_of(folder: Path, image: str, text: str, **layers: int) -> ModelCard:
    settings = {
        "image_encoder": "folder",
        "image_folder": str(save_image(folder / "image", image)),
        "text_encoder": "folder",
        "text_folder": str(save_text(folder / "text", text)),
        "embedding": 8,
    }
    model = ModelConfig.model_validate({**settings, **layers})
    return ModelCard(model=model, data=DataConfig(), classes=("clear", "opacity"), vocab_size=1).pinned()


@pytest.mark.parametrize(
    ("image", "text", "begins"),
    [
        ("vit", "bert", {"network.layers.1", "network.encoder.layer.1"}),
        ("resnet", "distilbert", {"network.encoder.stages.1", "network.transformer.layer.1"}),
    ],
)
def test_what_reads_the_input_and_the_first_layer_keep_their_weights_and_the_rest_learns(
    image: str, text: str, begins: set[str], tmp_path: Path, cohort_of: Callable[..., Cohort]
) -> None:
    card = card_of(tmp_path, image, text, frozen_image_layers=1, frozen_text_layers=1)
    model = card.build(3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tokenizer = load_tokenizer(card.data.tokenizer, card.data.max_tokens)
    studies = StudyTensors(cohort_of(4).studies, ImageCache(tmp_path, card.data.image_size, 2**24), tokenizer)
    fit(model, studies, TrainConfig(lr=0.05), ranking_weight=0.1, epochs=1, seed=0)

    changed = {name for name, tensor in model.state_dict().items() if not tensor.equal(before[name])}
    frozen = card.frozen_names()
    assert frozen
    assert not changed & frozen
    assert {name for name in frozen if "embed" in name}
    towers = [name.partition(".tower.")[2] for name in before if ".tower." in name and name not in frozen]
    assert {first for first in begins if not any(name.startswith(first) for name in towers)} == set()
    assert not [name for name in towers if "embed" in name]
    assert {name.partition(".")[0] for name in changed if ".tower." in name} == {"image_encoder", "text_encoder"}


def test_the_seed_of_a_model_does_not_change_its_frozen_layers_and_the_card_pins_them(tmp_path: Path) -> None:
    card = card_of(tmp_path, "resnet", "distilbert", frozen_image_layers=1)
    assert len(card.frozen) == 64
    one, other = card.build(1).state_dict(), card.build(2).state_dict()
    assert all(one[name].equal(other[name]) for name in card.frozen_names())
    assert {name.partition(".")[0] for name in card.frozen_names()} == {"image_encoder"}


@pytest.mark.parametrize(
    ("reads", "layers"), [("image", {"frozen_image_layers": 3}), ("text", {"frozen_text_layers": 3})]
)
def test_more_layers_than_there_are_are_refused(reads: str, layers: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"has 2 layers, model.frozen_{reads}_layers is 3"):
        card_of(tmp_path, "vit", "bert", **layers)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"frozen_image_layers": 1}, "needs image_encoder 'folder'"),
        (
            {"image_encoder": "folder", "image_folder": "somewhere", "frozen": "image", "frozen_image_layers": 1},
            "an encoder that is trained",
        ),
        (
            {"text_encoder": "folder", "text_folder": "somewhere", "adapters": "text", "frozen_text_layers": 1},
            "an encoder that is trained",
        ),
    ],
    ids=["no folder", "frozen as a whole", "adapters"],
)
def test_layers_that_would_not_be_frozen_are_refused(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ModelConfig.model_validate(settings)


def test_layers_are_the_outermost_numbered_modules_in_their_order() -> None:
    names = ["embed.weight", "stages.0.layers.1.w", "stages.0.layers.2.w", "stages.1.down.0.w", "stages.10.w", "norm.w"]
    assert layers_of(names) == ("stages.0", "stages.1", "stages.10")
    assert first_layers(names, 0) == ()
    assert first_layers(names, 1) == tuple(names[:3])
    assert first_layers(names, 2) == tuple(names[:4])
    assert first_layers(names, 3) == tuple(names[:5])
