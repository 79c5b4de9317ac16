"""Small hospitals whose classes differ in brightness and in one word, so that a tiny model learns to tell them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from client.cohort.site_files import write_site
from common.learning.config import DataConfig, ModelConfig
from common.learning.data.tokenizer import load_tokenizer
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Cohort, Split, Study, Subset

CLASSES = ("clear", "opacity")
DATA = DataConfig(image_size=32, max_tokens=16)
MODEL = ModelConfig(width=4, embedding=8, text_hidden=16, text_layers=1)


def small_card() -> ModelCard:
    """Of a model of some ten thousand weights."""
    vocabulary = load_tokenizer(DATA.tokenizer, DATA.max_tokens).vocab_size
    return ModelCard(model=MODEL, data=DATA, classes=CLASSES, vocab_size=vocabulary)


def write_hospitals(
    root: Path, names: tuple[str, ...], sizes: Mapping[Subset, int], card: ModelCard, spread: float = 0.0
) -> dict[str, Path]:
    """A folder for each hospital, with so many patients in each set.

    `spread` is the standard deviation of a patient's brightness; the means of the classes are 40 apart.
    """
    subsets = [subset for subset, count in sizes.items() for _ in range(count)]
    folders = {}

    for seed, name in enumerate(names):
        cohort = _cohort(root / "images", name, len(subsets), seed, spread)
        split = Split(dict(zip(cohort.patients, subsets, strict=True)))
        folders[name] = root / "sites" / name
        write_site(folders[name], cohort, split, card, name=name, seed=0, device="cpu", cache=root / "cache")

    return folders


def _cohort(root: Path, name: str, patients: int, seed: int, spread: float) -> Cohort:
    root.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    studies = []

    for number in range(patients):
        label = number % 2
        path = root / f"{name}-{number:03}.png"
        brightness = draw.normal(90 + 40 * label, spread) if spread else 90 + 40 * label
        Image.fromarray(draw.normal(brightness, 40, (32, 32)).clip(0, 255).astype(np.uint8)).save(path)
        finding = ("normal", "opacity")[label if draw.random() < 0.8 else 1 - label]
        report = f"{draw.choice(['heart', 'lungs', 'base'])} {finding}"
        studies.append(Study(f"{name}-{number:03}", f"{name}-{number:03}-0", path, report, label, site=name))

    return Cohort(tuple(studies), CLASSES)
