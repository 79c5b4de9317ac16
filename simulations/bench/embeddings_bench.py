"""Embeddings per second from the cache, and a hospital's part of a campaign on 10,000 studies with frozen encoders.

`python -m simulations.bench.embeddings_bench`; features are random, of the lengths of MiniLM and EfficientNet-Lite0.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.learning.config import DataConfig, ModelConfig, TrainConfig, UnlearnConfig
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.study_embeddings import StudyEmbeddings
from common.learning.data.tensors import StudyTensors
from common.learning.data.tokenizer import BUILTIN, load_tokenizer
from common.learning.model.card import ModelCard
from common.learning.model.pinned_encoders import embeddings_of
from common.learning.records import Study
from common.learning.training import fit, score
from common.learning.unlearning.base import UnlearnSets, nothing
from common.learning.unlearning.calibrated_forget_mi import calibrated

STUDIES = 10_000
FORGET = 100
CALIBRATION = 1_000


def bench_embeddings() -> list[str]:
    """Rows of the table of `make bench`."""
    with tempfile.TemporaryDirectory() as folder:
        card = _card(Path(folder))
        pixels = ImageCache(Path(folder) / "cache", 32, 2**24)
        embeddings = embeddings_of(card, pixels, load_tokenizer(BUILTIN, 16), torch.device("cpu"))
        if embeddings is None:
            raise ValueError("nothing is frozen")
        studies = _filled(embeddings, Path(folder) / "images")

        begin = time.perf_counter()
        everybody = _tensors(studies, embeddings)
        reading = time.perf_counter() - begin

        begin = time.perf_counter()
        _campaign(card, studies, embeddings)
        campaign = time.perf_counter() - begin

    return [
        f"| embeddings from the cache, one process | {2 * len(everybody) / reading:,.0f} embeddings/s |",
        f"| a hospital's part of a campaign, {STUDIES:,} cached studies, {FORGET} to forget | {campaign:.0f} s |",
    ]


def _campaign(card: ModelCard, studies: tuple[Study, ...], embeddings: StudyEmbeddings) -> None:
    """Unlearn, one epoch of retention, and the scores of an audit."""
    sets = UnlearnSets(
        forget=_tensors(studies[:FORGET], embeddings),
        retain=_tensors(studies[FORGET:-CALIBRATION], embeddings),
        calibration=_tensors(studies[-CALIBRATION:], embeddings),
    )
    model = card.build(0)
    # Noisy copies need radiographs and an encoder's weights; these are random.
    config = UnlearnConfig(noise="none", passes=5, tolerance=0.0)
    calibrated(model, sets, config, ranking_weight=0.1, seed=0, on_pass=nothing)
    fit(model, sets.retain, TrainConfig(), ranking_weight=0.1, epochs=1, seed=0)
    for group in (sets.forget, sets.retain, sets.calibration):
        score(model, group)


def _tensors(studies: tuple[Study, ...], embeddings: StudyEmbeddings) -> StudyTensors:
    return StudyTensors(studies, embeddings.pixels, embeddings.tokenizer, embeddings=embeddings)


def _filled(embeddings: StudyEmbeddings, images: Path) -> tuple[Study, ...]:
    """Studies whose features are in the cache: the file of an image is its number."""
    images.mkdir()
    rng = np.random.default_rng(0)
    studies = []

    for number in range(STUDIES):
        path = images / str(number)
        path.write_text(str(number))
        studies.append(Study(f"p{number}", f"s{number}", path, f"report {number}", number % 2))

    names = embeddings.names()
    for study in studies:
        for key, name, width in (
            (embeddings.pixels.digest(study.image), names[0], 1280),
            (embeddings.cache.key_of_report(study.report), names[1], 384),
        ):
            embeddings.cache.put(key, name, rng.standard_normal(width).astype(np.float32))

    return tuple(studies)


def _card(root: Path) -> ModelCard:
    from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel  # noqa: PLC0415 - seconds of import

    shape: dict[str, Any] = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 30}
    BertModel(BertConfig(hidden_size=384, **shape)).save_pretrained(root / "text")
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[1280], depths=[1])).save_pretrained(root / "image")
    (root / "image" / "preprocessor_config.json").write_text(json.dumps({"size": 32, "do_normalize": False}))
    model = ModelConfig(
        image_encoder="folder",
        image_folder=str(root / "image"),
        text_encoder="folder",
        text_folder=str(root / "text"),
        frozen="both",
    )

    return ModelCard(model=model, data=DataConfig(image_size=32, max_tokens=16), classes=("a", "b"), vocab_size=30)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write("\n".join(bench_embeddings()) + "\n")
