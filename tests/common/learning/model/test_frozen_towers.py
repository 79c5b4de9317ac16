"""Frozen towers: outside the weights, the same features from cache and from inputs, pinned by digest."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from encoder_folders import save_image, save_text

from common.errors import CheckpointError
from common.learning.config import DataConfig, ModelConfig, TrainConfig, UnlearnConfig
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.tensors import StudyTensors
from common.learning.data.tokenizer import load_tokenizer
from common.learning.model.card import ModelCard
from common.learning.model.pinned_encoders import embeddings_of
from common.learning.model.towers import frozen_tower
from common.learning.records import Cohort
from common.learning.training import fit, score
from common.learning.unlearning.base import UnlearnSets, nothing
from common.learning.unlearning.forget_mi import noisy_copy
from common.learning.unlearning.methods import METHODS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("encoders")
    save_image(root / "image", "convnext")
    save_text(root / "text", "bert")
    return root


def frozen_card(folders: Path, frozen: Literal["none", "image", "text", "both"] = "both") -> ModelCard:
    model = ModelConfig(
        image_encoder="folder",
        image_folder=str(folders / "image"),
        text_encoder="folder",
        text_folder=str(folders / "text"),
        frozen=frozen,
        embedding=8,
    )
    return ModelCard(model=model, data=DataConfig(), classes=("clear", "opacity"), vocab_size=1).pinned()


def tensors(card: ModelCard, cohort: Cohort, cache: Path) -> StudyTensors:
    pixels = ImageCache(cache, card.data.image_size, 2**24)
    tokenizer = load_tokenizer(card.data.tokenizer, card.data.max_tokens)
    return StudyTensors(cohort.studies, pixels, tokenizer, embeddings=embeddings_of(card, pixels, tokenizer, CPU))


def test_only_heads_are_weights_and_a_copy_shares_the_towers(folders: Path) -> None:
    model = frozen_card(folders).build(1)
    assert all(name.startswith(("fusion.", "classifiers.")) or ".project." in name for name in model.state_dict())
    assert copy.deepcopy(model).image_encoder.frozen is model.image_encoder.frozen


@pytest.mark.parametrize("frozen", ["image", "text", "both"])
def test_cached_features_score_as_the_inputs_do(
    frozen: Literal["image", "text", "both"], folders: Path, tmp_path: Path, cohort_of: Callable[..., Cohort]
) -> None:
    card = frozen_card(folders, frozen)
    studies = tensors(card, cohort_of(4), tmp_path / "cache")
    batch = studies.batch(np.arange(8), CPU)
    assert (batch.images.ndim == 2) is (frozen != "text")
    assert batch.tokens.is_floating_point() is (frozen != "image")

    unfrozen = StudyTensors(studies.studies, studies._cache, studies.tokenizer)
    model = card.build(1)
    assert score(model, studies).logits == pytest.approx(score(model, unfrozen).logits, abs=1e-4)


def test_each_study_runs_once_and_alone_whoever_else_is_there(
    folders: Path, tmp_path: Path, cohort_of: Callable[..., Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = frozen_card(folders)
    seen: list[int] = []
    real = frozen_tower.FrozenTower.features

    def features(self: frozen_tower.FrozenTower, *inputs: torch.Tensor) -> torch.Tensor:
        seen.append(len(inputs[0]))
        return real(self, *inputs)

    monkeypatch.setattr(frozen_tower.FrozenTower, "features", features)
    cohort = cohort_of(4)
    everybody = tensors(card, cohort, tmp_path / "cache").batch(np.arange(8), CPU)
    assert seen == [1] * 16
    tensors(card, cohort, tmp_path / "cache")
    assert seen == [1] * 16

    without = tensors(card, cohort.of(["p-1", "p-3"]), tmp_path / "other").batch(np.arange(4), CPU)
    rows = [2, 3, 6, 7]
    assert torch.equal(without.images, everybody.images[rows])
    assert torch.equal(without.tokens, everybody.tokens[rows])


def test_noisy_copies_are_inputs_again_and_differ_in_what_is_noisy(
    folders: Path, tmp_path: Path, cohort_of: Callable[..., Cohort]
) -> None:
    card = frozen_card(folders)
    studies = tensors(card, cohort_of(3), tmp_path / "cache")
    batch = studies.batch(np.arange(6), CPU)
    model = card.build(1).eval()
    plain = model(batch.images, batch.tokens, batch.mask).embeddings
    for noise, changed in (("none", ()), ("image", (0, 2)), ("text", (1, 2)), ("both", (0, 1, 2))):
        config = UnlearnConfig(noise=noise, text_noise=1.0)  # type: ignore[arg-type]
        noisy = noisy_copy(batch, studies, config, 3)
        outputs = model(noisy.images, noisy.tokens, noisy.mask).embeddings
        assert tuple(at for at in range(3) if not torch.equal(outputs[at], plain[at])) == changed


def test_heads_learn_and_every_method_unlearns_on_cached_features(
    folders: Path, tmp_path: Path, cohort_of: Callable[..., Cohort]
) -> None:
    card = frozen_card(folders)
    forget, retain, calibration = (
        tensors(card, cohort_of(6, name=name, seed=at), tmp_path / "cache") for at, name in enumerate("frc")
    )
    sets = UnlearnSets(forget, retain, calibration)
    model = card.build(1)
    config = TrainConfig(lr=0.01)
    first = fit(model, sets.retain, config, ranking_weight=0.1, epochs=1, seed=0).loss
    assert fit(model, sets.retain, config, ranking_weight=0.1, epochs=10, seed=0).loss < first

    for name, method in METHODS.items():
        own = copy.deepcopy(model)
        method(own, sets, UnlearnConfig(passes=1), ranking_weight=0.1, seed=0, on_pass=nothing)
        assert all(torch.isfinite(tensor).all() for tensor in own.state_dict().values()), name


def test_another_encoder_than_the_federations_is_refused(folders: Path, tmp_path: Path) -> None:
    card = frozen_card(folders)
    card.build()
    other = card.model.model_copy(update={"image_folder": str(save_image(tmp_path, "convnext", seed=1))})
    with pytest.raises(CheckpointError, match="the image encoder here is not the federation's"):
        card.model_copy(update={"model": other}).build()


@pytest.mark.parametrize("frozen", ["image", "text", "both"])
def test_only_encoders_of_folders_freeze(frozen: str) -> None:
    with pytest.raises(ValueError, match="'folder'"):
        ModelConfig.model_validate({"frozen": frozen})


@pytest.mark.parametrize(
    ("encoder", "setting"),
    [("folder", {"text_layers": 2}), ("words", {"text_layers": 2}), ("words", {"frozen_text_layers": 1})],
)
def test_a_number_of_layers_is_refused_where_it_would_be_ignored(encoder: str, setting: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="has no meaning with text_encoder"):
        ModelConfig.model_validate({"text_encoder": encoder, "text_folder": "somewhere", **setting})
