from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from common.errors import ConfigError
from common.learning.config import DataConfig, ModelConfig
from common.learning.model.checkpoint import ModelCard, state_digest
from common.learning.model.fusion import AdaptationGate
from common.learning.model.image_encoders import build_image_encoder
from common.learning.model.image_text import build_model
from common.learning.model.text_encoders import build_text_encoder


@pytest.mark.parametrize("kind", ["small_cnn", "resnet7"])
@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("size", [(16, 16), (33, 33), (47, 31)])
def test_image_encoders_take_any_size(kind: str, norm: str, size: tuple[int, int]) -> None:
    config = ModelConfig.model_validate({"image_encoder": kind, "norm": norm, "width": 4, "embedding": 9})
    found = build_image_encoder(config)(torch.rand(2, 1, *size))
    assert found.shape == (2, 9)
    assert bool(torch.isfinite(found).all())


def test_the_model_gives_three_branches(card: ModelCard) -> None:
    images = torch.rand(5, 1, 32, 32)
    tokens = torch.randint(card.vocab_size, (5, 16))
    outputs = card.build()(images, tokens, torch.ones_like(tokens))
    assert outputs.embeddings.shape == (3, 5, 8)
    assert outputs.logits.shape == (3, 5, 2)


def test_padding_does_not_change_an_embedding(card: ModelCard) -> None:
    model = card.build().eval()
    images = torch.rand(1, 1, 32, 32)
    tokens = torch.randint(card.vocab_size, (1, 16))
    mask = (torch.arange(16) < 7).long()[None]
    other = torch.where(mask == 1, tokens, (tokens + 1) % card.vocab_size)
    first = model(images, tokens, mask)
    second = model(images, other, mask)
    torch.testing.assert_close(first.embeddings, second.embeddings)


def test_the_image_branch_does_not_see_the_report_and_the_fused_one_sees_both(card: ModelCard) -> None:
    model = card.build().eval()
    images = torch.rand(2, 1, 32, 32)
    tokens = torch.randint(5, card.vocab_size, (2, 16))
    mask = torch.ones_like(tokens)

    with torch.no_grad():
        base = model(images, tokens, mask)
        text = model(images, tokens.flip(0), mask)
        image = model(images.flip(0), tokens, mask)

    assert torch.equal(base.logits[0], text.logits[0])
    assert not torch.equal(base.logits[2], text.logits[2])
    assert torch.equal(base.logits[1], image.logits[1])
    assert not torch.equal(base.logits[2], image.logits[2])


def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator(card: ModelCard) -> None:
    state = torch.random.get_rng_state()
    first = state_digest(card.build(3).state_dict())
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    assert state_digest(card.build(3).state_dict()) == first
    assert state_digest(card.build(4).state_dict()) != first
    torch.random.set_rng_state(state)


def test_the_gate_shifts_a_text_by_no_more_than_its_length() -> None:
    gate = AdaptationGate(8, beta=0.5, dropout=0.0)
    gate.norm = nn.Identity()  # type: ignore[assignment]  # to see the shift itself
    text = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        shift = gate(1000 * torch.ones(4, 8), text) - text
        assert bool((shift.norm(dim=1) <= 0.5 * text.norm(dim=1) * 1.0001).all())
        assert bool((shift.norm(dim=1) > 0).any())


def test_a_closed_gate_has_no_nan_gradient() -> None:
    gate = AdaptationGate(8, beta=1.0, dropout=0.0)
    nn.init.constant_(gate.gate.weight, 0.0)
    nn.init.constant_(gate.gate.bias, -1.0)
    image = torch.randn(3, 8, requires_grad=True)
    text = torch.randn(3, 8, requires_grad=True)
    gate(image, text).sum().backward()
    found = [image.grad, text.grad, *(p.grad for p in gate.parameters())]
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in found)


def test_local_transformers_folders_serve_as_encoders(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel, ViTConfig, ViTModel

    shape: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=30, **shape), add_pooling_layer=False).save_pretrained(tmp_path / "text")
    ViTModel(ViTConfig(image_size=32, patch_size=16, **shape), add_pooling_layer=False).save_pretrained(
        tmp_path / "image"
    )
    config = ModelConfig(
        image_encoder="transformers",
        text_encoder="transformers",
        image_folder=str(tmp_path / "image"),
        text_folder=str(tmp_path / "text"),
        text_layers=2,
        embedding=8,
    )
    model = build_model(config, DataConfig(image_size=32, max_tokens=6), 4, 30, 0)
    assert len(model.text_encoder.bert.encoder.layer) == 2  # type: ignore[union-attr,arg-type]  # untyped attributes
    tokens = torch.randint(30, (2, 6))
    assert model(torch.rand(2, 1, 32, 32), tokens, torch.ones_like(tokens)).logits.shape == (3, 2, 4)


def test_a_folder_without_a_model_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a BERT-like"):
        build_text_encoder(ModelConfig(text_encoder="transformers", text_folder=str(tmp_path)), 30, 6)
    with pytest.raises(ConfigError, match="transformers image model"):
        build_image_encoder(ModelConfig(image_encoder="transformers", image_folder=str(tmp_path)))


def test_a_linear_map_of_hashed_words_learns_which_words_matter() -> None:
    from common.learning.data.tokenizer import load_tokenizer
    from common.learning.model.card import ModelCard

    config = ModelConfig(width=4, embedding=8, text_encoder="words")
    card = ModelCard(model=config, data=DataConfig(image_size=32), classes=("a", "b"), vocab_size=1).pinned()
    model = card.build(0)
    tokens, mask = map(torch.from_numpy, load_tokenizer(card.data.tokenizer, 64).encode(["clear lungs", "opacity", ""]))
    optimizer = torch.optim.AdamW(model.text_encoder.parameters(), lr=0.1)
    before = model.text_encoder(tokens, mask)
    assert before[2].abs().max() == 0
    for _ in range(100):
        optimizer.zero_grad()
        (model.text_encoder(tokens, mask)[:2] - torch.eye(8)[:2]).square().sum().backward()
        optimizer.step()
    assert (model.text_encoder(tokens, mask)[:2] - torch.eye(8)[:2]).abs().max() < 0.1
