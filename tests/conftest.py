"""Made-up radiographs and the smallest model that reads them, for the tests that run the real thing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from common.config import DataConfig, ModelConfig
from common.records import Cohort, Study

if TYPE_CHECKING:
    from common.data.tensors import StudyTensors
    from common.model.checkpoint import ModelCard

# Before torch is imported: sums over several threads give other bits, and the tests already run side by side.
os.environ["OMP_NUM_THREADS"] = "1"

CLASSES = ("clear", "opacity")
DATA = DataConfig(image_size=32, max_tokens=16)
MODEL = ModelConfig(width=4, embedding=8, text_hidden=16, text_layers=1, dropout=0.1)
WORDS = [
    "heart",
    "lungs",
    "pleural",
    "left",
    "right",
    "base",
    "apex",
    "mild",
    "small",
    "large",
    "stable",
    "patchy",
    "dense",
    "hazy",
]

CohortOf = Callable[..., Cohort]
TensorsOf = Callable[[Cohort], "StudyTensors"]


@pytest.fixture
def card() -> ModelCard:
    """The shape of a model of some ten thousand weights."""
    from common.data.tokenizer import load_tokenizer
    from common.model.checkpoint import ModelCard

    vocabulary = load_tokenizer(DATA.tokenizer, DATA.max_tokens).vocab_size
    return ModelCard(model=MODEL, data=DATA, classes=CLASSES, vocab_size=vocabulary)


@pytest.fixture
def cohort_of(tmp_path: Path) -> CohortOf:
    """Patients named `<name>-<n>` with two classes in turn, each study with an image and a report of its own."""

    def make(patients: int, *, name: str = "p", studies: int = 2, seed: int = 0, site: str = "north") -> Cohort:
        rng = np.random.default_rng(seed)
        rows = []
        for number in range(patients):
            for study in range(studies):
                label = number % 2
                pixels = rng.normal(100 + 15 * label, 40, (32, 32)).clip(0, 255).astype(np.uint8)
                path = tmp_path / f"{name}-{number}-{study}.png"
                Image.fromarray(pixels).save(path)
                words = " ".join(rng.choice(WORDS, 6))
                text = f"{CLASSES[label]} {words}" if rng.random() < 0.8 else words
                rows.append(Study(f"{name}-{number}", f"{name}-{number}-{study}", path, text, label, site=site))
        return Cohort(tuple(rows), CLASSES)

    return make


@pytest.fixture
def tensors_of(tmp_path: Path) -> TensorsOf:
    """Studies as tensors, decoded by the real cache and tokenizer."""
    from common.data.image_cache import ImageCache
    from common.data.tensors import StudyTensors
    from common.data.tokenizer import load_tokenizer

    cache = ImageCache(tmp_path / "cache", DATA.image_size, 2**24)
    tokenizer = load_tokenizer(DATA.tokenizer, DATA.max_tokens)
    return lambda cohort: StudyTensors(cohort.studies, cache, tokenizer)
