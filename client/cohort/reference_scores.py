"""Scores of the reference models, kept for later audits. They are data of patients and never leave the site."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.learning.evaluation.membership import References
from common.learning.evaluation.scores import Scores

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
        np.savez(part, allow_pickle=False, owners=_owners(scores), **rows)
        os.replace(part, self._folder / f"{number}.npz")

    def purge(self) -> int:
        """Delete all scores and return their number: they are data of patients, and useless after their campaign."""
        files = len([*self._folder.glob("[0-9]*.npz")])
        shutil.rmtree(self._folder, ignore_errors=True)
        return files

    def load(self, scores: Mapping[str, Scores | None]) -> References | None:
        """All references for the rows of `scores`, in order; None if there are none or they belong to other rows.

        A revocation in between changes the groups, and rows of different patients must never be compared.
        """
        files = sorted(self._folder.glob("[0-9]*.npz"), key=lambda path: int(path.stem))
        if not files:
            return None
        rows: dict[str, list[np.ndarray]] = {group: [] for group in GROUPS}
        for path in files:
            with np.load(path, allow_pickle=False) as references:
                if not np.array_equal(references["owners"], _owners(scores)):
                    return None
                for group in GROUPS:
                    rows[group].append(references[group])

        return References(*(np.stack(rows[group]) for group in ("forget", "never_seen", "calibration")))


def _owners(scores: Mapping[str, Scores | None]) -> NDArray[np.int64]:
    """Sizes, patient numbers and labels of all groups, which identify the rows."""
    parts = [np.array([len(rows) if (rows := scores[group]) is not None else 0 for group in GROUPS])]
    for group in GROUPS:
        if (rows := scores[group]) is not None:
            parts += [rows.patients, rows.labels]

    return np.concatenate(parts).astype(np.int64)
