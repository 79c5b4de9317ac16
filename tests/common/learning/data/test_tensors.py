"""Tests of the loader: who is out now is in no later batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.tensors import Batch, StudyTensors
from common.learning.data.tokenizer import load_tokenizer
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Cohort

CPU = torch.device("cpu")


@pytest.mark.parametrize("way", ["shuffled", "to_score"])
def test_whoever_is_out_when_a_batch_is_made_is_not_in_it_and_may_come_back(
    way: str, tmp_path: Path, card: ModelCard, cohort_of: Callable[..., Cohort]
) -> None:
    cohort = cohort_of(6, studies=1)
    asked: list[frozenset[str]] = []
    says = [frozenset[str](), frozenset({"p-0"}), frozenset({"p-0", "p-1"}), frozenset({"p-1"}), frozenset({"nobody"})]

    def withdrawn() -> frozenset[str]:
        asked.append(says[len(asked) % len(says)])
        return asked[-1]

    tokenizer = load_tokenizer(card.data.tokenizer, card.data.max_tokens)
    cache = ImageCache(tmp_path / "cache", card.data.image_size, 2**24)
    studies = StudyTensors(cohort.studies, cache, tokenizer, withdrawn)

    def epoch() -> list[Batch]:
        if way == "to_score":
            return list(studies.to_score(6, CPU))
        return list(studies.shuffled(6, CPU, np.random.default_rng(0)))

    for out in (*says, *says):
        (batch,) = epoch()
        found = {studies.studies[row].patient for row in batch.rows}
        assert found == {f"p-{number}" for number in range(6)} - out
