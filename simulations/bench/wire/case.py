"""What both apps of `simulations.bench.wire.bench` share: the case, the weights, and a 'training' that only adds noise.

It imports nothing that Flower's own app would not import, because the bench compares memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel
from torch import Tensor

from common.files import write_text
from common.learning.config import ModelConfig, Precision

VARIABLE = "FEDFORGET_WIRE_BENCH"
"""Path of the case's JSON, for the ServerApp and the ClientApps."""
SITES = 4
ROUNDS = 2
LAYERS = 12


class Case(BaseModel):
    """One run: which app, what of it, and how large the model is."""

    name: str
    app: Literal["baseline", "lean"]
    precision: Precision = "fp32"
    frozen: int = 0
    scale: float = 1.0
    """Share of 110 M parameters."""

    @property
    def model(self) -> ModelConfig:
        """For the names of the frozen layers."""
        return ModelConfig(text_layers=LAYERS, frozen_text_layers=self.frozen)


def note() -> Path:
    """File of the case; processes write their results beside it."""
    return Path(os.environ[VARIABLE])


def case() -> Case:
    """The current case."""
    return Case.model_validate_json(note().read_bytes())


def seed_of(node: int) -> int:
    """Seed of the noise; differs between nodes and calls."""
    return node % 2**31 + time.monotonic_ns() % 1000


def shapes(scale: float) -> dict[str, tuple[int, ...]]:
    """A BERT of 12 layers and 768 channels beside a small image encoder: 110 M floats at `scale` 1."""
    text = "text_encoder.bert"
    sizes: dict[str, tuple[int, ...]] = {
        f"{text}.embeddings.word_embeddings.weight": (30522, 768),
        f"{text}.embeddings.position_embeddings.weight": (512, 768),
    }

    for layer in range(LAYERS):
        name = f"{text}.encoder.layer.{layer}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            sizes[f"{name}.{part}.weight"] = (768, 768)
            sizes[f"{name}.{part}.bias"] = (768,)

        sizes[f"{name}.intermediate.dense.weight"] = (3072, 768)
        sizes[f"{name}.intermediate.dense.bias"] = (3072,)
        sizes[f"{name}.output.dense.weight"] = (768, 3072)
        sizes[f"{name}.output.dense.bias"] = (768,)

    sizes["image_encoder.stages.weight"] = (1200, 1000)

    return {name: (max(1, round(first * scale)), *rest) for name, (first, *rest) in sizes.items()}


def initial(scale: float) -> dict[str, Tensor]:
    """Initial weights."""
    return dict(_initial(scale))


def _initial(scale: float) -> Iterator[tuple[str, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    for name, shape in shapes(scale).items():
        yield name, 0.02 * torch.randn(shape, generator=draw)


def trained(state: Mapping[str, Tensor], seed: int, frozen: frozenset[str]) -> dict[str, Tensor]:
    """Move every weight a little, as an epoch of AdamW does."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: tensor if name in frozen else tensor + 1e-4 * torch.randn(tensor.shape, generator=draw)
        for name, tensor in state.items()
    }


def finish(state: Mapping[str, Tensor]) -> None:
    """Write the distance that the model moved, so that the bench can check that it was trained."""
    # One tensor at a time, so that the check itself does not set the peak of memory.
    distance = sum(float((state[name] - tensor).square().sum()) for name, tensor in _initial(case().scale)) ** 0.5
    write_text(note().with_suffix(".done"), f"{distance:.6g}\n")
