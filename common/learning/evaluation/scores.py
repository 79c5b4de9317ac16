"""Scores of a set of studies: the input of every metric, attack and stop rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.learning.evaluation.figures import Branch

BRANCHES: tuple[Branch, Branch, Branch] = ("image", "text", "fused")
"""Order of the first axis of `Scores.logits`."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Logits of `n` studies on the three branches. Rows never leave a site.

    Attributes:
        logits: float64 `[3, n, classes]`, branches in the order of `BRANCHES`.
        labels: int64 `[n]`, index of the true class.
        patients: int64 `[n]`, a number per patient, local to the set.
        branches: bool `[3, n]`, the branches on which a study counts; None means all.
    """

    logits: NDArray[np.float64]
    labels: NDArray[np.int64]
    patients: NDArray[np.int64]
    branches: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def rows_on(self, branch: int) -> NDArray[np.bool_]:
        """Which studies count on a branch, bool `[n]`."""
        return np.ones(len(self), dtype=np.bool_) if self.branches is None else self.branches[branch]

    def of(self, rows: NDArray[np.bool_]) -> Scores:
        """The scores of the studies at `rows`, bool `[n]`."""
        branches = None if self.branches is None else self.branches[:, rows]
        return Scores(self.logits[:, rows], self.labels[rows], self.patients[rows], branches)

    @property
    def log_probs(self) -> NDArray[np.float64]:
        """Log-softmax of the logits, `[3, n, classes]`."""
        # The largest logit is subtracted, or exp would overflow.
        top = self.logits.max(axis=2, keepdims=True)
        below_top = self.logits - top
        return np.asarray(below_top - np.log(np.exp(below_top).sum(axis=2, keepdims=True)))

    @property
    def loss(self) -> NDArray[np.float64]:
        """Cross-entropy of each study, `[3, n]`, in nats."""
        return np.asarray(-self.log_probs[:, np.arange(len(self)), self.labels])

    @property
    def margin(self) -> NDArray[np.float64]:
        """Logit-scaled confidence `[3, n]`: true logit minus logsumexp of the others (Carlini et al. 2022, eq. 3)."""
        rows = np.arange(len(self))
        others = self.logits.copy()
        others[:, rows, self.labels] = -np.inf
        top = others.max(axis=2, keepdims=True)
        rest = np.log(np.exp(others - top).sum(axis=2)) + top[:, :, 0]

        return np.asarray(self.logits[:, rows, self.labels] - rest)
