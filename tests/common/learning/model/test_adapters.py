"""Adapters on a tower: they alone are the model's weights, a copy has its own, and the tower stays as it was."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from encoder_folders import SIDE, save_image, save_text

from common.learning.config import ModelConfig
from common.learning.model.card import ModelCard
from common.learning.model.pinned_encoders import encoder_folders
from common.learning.model.towers.frozen_tower import loaded
from tests.common.learning.model.test_encoder_families import card_of

pytest.importorskip("peft")


def inputs(card: ModelCard, studies: int = 3) -> tuple[torch.Tensor, ...]:
    tokens = torch.randint(4, 12, (studies, card.data.max_tokens))
    return torch.rand(studies, 1, SIDE, SIDE), tokens, torch.ones_like(tokens)


@pytest.mark.parametrize(("image", "text"), [("vit", "deberta"), ("resnet", "modernbert")])
def test_adapters_alone_are_weights_start_as_the_tower_and_learn(image: str, text: str, tmp_path: Path) -> None:
    folders = save_image(tmp_path / "image", image), save_text(tmp_path / "text", text)
    card = card_of(*folders, embedding=8, adapters="both")
    model = card.build(1).eval()
    frozen = card_of(*folders, embedding=8, frozen="both").build(1).eval()
    names = {name for name in model.state_dict() if "adapters" in name}
    assert {*model.state_dict()} - names == {*frozen.state_dict()}

    frozen.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name not in names})
    batch = inputs(card)
    assert torch.allclose(model(*batch).logits, frozen(*batch).logits, atol=1e-5)

    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(2):
        optimizer.zero_grad()
        model(*batch).logits.square().sum().backward()
        optimizer.step()

    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert any("image_encoder.adapters" in name for name in changed)
    assert any("text_encoder.adapters" in name for name in changed)


def test_a_copy_trains_its_own_adapters_and_nobody_changes_the_tower(tmp_path: Path) -> None:
    card = card_of(save_image(tmp_path / "image"), save_text(tmp_path / "text"), embedding=8, adapters="both")
    model = card.build(1)
    towers = {reads: copy.deepcopy(loaded(folder).state_dict()) for reads, folder in encoder_folders(card).items()}
    twin = copy.deepcopy(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    with torch.no_grad():
        for weight in twin.parameters():
            weight.add_(1.0)
    batch = inputs(card)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not torch.allclose(model.eval()(*batch).logits, twin.eval()(*batch).logits)

    model.load_state_dict(twin.state_dict())
    assert torch.allclose(model(*batch).logits, twin(*batch).logits, atol=1e-5)
    for reads, folder in encoder_folders(card).items():
        assert all(torch.equal(tensor, towers[reads][name]) for name, tensor in loaded(folder).state_dict().items())


def test_the_same_seed_gives_the_same_adapters(tmp_path: Path) -> None:
    card = card_of(save_image(tmp_path / "image"), save_text(tmp_path / "text"), embedding=8, adapters="text")
    first, again, other = (card.build(seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items() if "lora_A" in name)


def test_an_encoder_is_frozen_or_has_adapters() -> None:
    with pytest.raises(ValueError, match="either frozen or has adapters"):
        ModelConfig(image_encoder="folder", text_encoder="folder", frozen="both", adapters="text")
    with pytest.raises(ValueError, match="needs text_encoder 'folder'"):
        ModelConfig(adapters="text")
