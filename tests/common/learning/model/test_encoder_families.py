"""Encoders of folders: every family is understood, normalised and pooled as its folder says, and trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from encoder_folders import (
    IMAGE,
    MEAN,
    POSITIONS,
    SIDE,
    STD,
    TEXT,
    save_image,
    save_text,
)
from encoder_matrix import CASES, PAGE, row

from common.learning.config import DataConfig, ModelConfig
from common.learning.data.tokenizer import load_tokenizer
from common.learning.model.card import ModelCard
from common.learning.model.towers.families import Reads
from common.learning.model.towers.folder import read_folder
from common.learning.model.towers.image_tower import ImageTower
from common.learning.model.towers.text_tower import TextTower


@pytest.mark.parametrize("kind", sorted(IMAGE))
def test_an_image_encoder_is_normalised_and_pooled_as_its_folder_says(kind: str, tmp_path: Path) -> None:
    encoder = read_folder(save_image(tmp_path, kind), "image")
    assert (encoder.size, encoder.channels) == (SIDE, 3)
    assert encoder.pixels is not None
    assert (encoder.pixels.mean, encoder.pixels.std) == (tuple(MEAN), tuple(STD))

    tower = ImageTower(encoder).eval()
    seen: list[torch.Tensor] = []

    def note(_module: object, _args: object, inputs: dict[str, torch.Tensor]) -> None:
        seen.append(inputs["pixel_values"])

    tower.network.register_forward_pre_hook(note, with_kwargs=True)
    features = tower(torch.full((2, 1, SIDE, SIDE), 0.6))
    assert features.shape == (2, encoder.width)
    expected = [(0.6 - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    assert seen[0].mean(dim=(0, 2, 3)).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", sorted(TEXT))
def test_a_text_encoder_reads_reports_with_the_tokenizer_of_its_folder(kind: str, tmp_path: Path) -> None:
    encoder = read_folder(save_text(tmp_path, kind), "text")
    assert encoder.positions == POSITIONS
    tower = TextTower(encoder).eval()
    tokens, mask = load_tokenizer(str(tmp_path), POSITIONS).encode(["clear lungs", "left opacity small heart"])
    features = tower(torch.from_numpy(tokens), torch.from_numpy(mask))
    assert features.shape == (2, encoder.width)
    assert not torch.allclose(features[0], features[1])

    if not tower.needs_all_tokens:  # padding is no text
        short = int(mask[0].sum())
        alone = tower(torch.from_numpy(tokens[:1, :short]), torch.from_numpy(mask[:1, :short]))
        assert torch.allclose(alone, features[:1], atol=1e-5)


@pytest.mark.parametrize(("reads", "kind"), CASES)
def test_the_docs_say_of_each_family_what_happens(reads: Reads, kind: str, tmp_path: Path) -> None:
    assert row(reads, kind, tmp_path) in PAGE.read_text(encoding="utf-8").splitlines()


def test_batch_norms_of_a_folder_keep_their_statistics(tmp_path: Path) -> None:
    tower = ImageTower(read_folder(save_image(tmp_path, "resnet"), "image")).train()
    before = {name: buffer.clone() for name, buffer in tower.named_buffers()}
    tower(torch.rand(4, 1, SIDE, SIDE))
    assert all(torch.equal(buffer, before[name]) for name, buffer in tower.named_buffers())


def card_of(image: Path, text: Path, **settings: Any) -> ModelCard:
    model = ModelConfig(
        image_encoder="folder", image_folder=str(image), text_encoder="folder", text_folder=str(text), **settings
    )
    return ModelCard(model=model, data=DataConfig(), classes=("clear", "opacity"), vocab_size=1).pinned()
