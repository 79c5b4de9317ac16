"""Made-up scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from common.learning.evaluation.scores import Scores

MakeScores = Callable[..., Scores]


@pytest.fixture
def make_scores() -> MakeScores:
    """Scores of `patients` with one study each unless `studies` says how many; random unless `confidence` is given."""

    def make(
        rng: np.random.Generator, patients: int, classes: int = 3, studies: int = 1, confidence: float | None = None
    ) -> Scores:
        labels = rng.integers(classes, size=patients).repeat(studies)
        logits = rng.normal(size=(3, len(labels), classes))
        if confidence is not None:
            logits = np.broadcast_to(confidence * np.eye(classes)[labels], logits.shape).copy()
        return Scores(logits, labels, np.arange(patients).repeat(studies))

    return make
