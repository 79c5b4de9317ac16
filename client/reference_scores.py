"""Scores of the reference models, kept at the site for the audits to come. Rows of patients: they never leave it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from common.evaluation.membership import References
from common.evaluation.scores import Scores

GROUPS = ("forget", "never_seen", "calibration")


class ReferenceScores:
    """Files `references/<k>.npz` in the site's folder; each group holds log-probabilities `[3, n]`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "references"

    def keep(self, number: int, scores: Mapping[str, Scores | None]) -> None:
        """Keep the log-probability of the true class under reference `number`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        rows = {group: -found.loss if (found := scores[group]) is not None else np.zeros((3, 0)) for group in GROUPS}
        part = self._folder / f".{number}.{os.getpid()}.npz"
        np.savez(part, allow_pickle=False, **rows)
        os.replace(part, self._folder / f"{number}.npz")

    def load(self) -> References | None:
        """All references, in order; None when there are none."""
        files = sorted(self._folder.glob("[0-9]*.npz"), key=lambda path: int(path.stem))
        if not files:
            return None
        rows: dict[str, list[np.ndarray]] = {group: [] for group in GROUPS}
        for path in files:
            with np.load(path, allow_pickle=False) as found:
                for group in GROUPS:
                    rows[group].append(found[group])
        return References(*(np.stack(rows[group]) for group in ("forget", "never_seen", "calibration")))
