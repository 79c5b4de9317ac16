"""How far two models' answers are apart."""

from __future__ import annotations

import numpy as np

from common.learning.evaluation.scores import Scores


def logit_distance(left: Scores, right: Scores) -> float:
    """Mean of 1 - cosine of the fused logits of the same studies, centred per study: 0 the same, 2 opposite."""
    # A constant added to all logits of a study changes no answer, so it must not change the distance.
    a, b = (s.logits[2] - s.logits[2].mean(axis=1, keepdims=True) for s in (left, right))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(1.0 - ((a * b).sum(axis=1) / np.maximum(norms, 1e-12)).mean())
