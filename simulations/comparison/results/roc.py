"""The curve of the membership attack, from scores of patients that nothing keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.cohort.site import Site
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Subset
from server.rounds.aggregation import State
from simulations.comparison.cell_result import Roc
from simulations.shadows.shadow_models import pooled_confidence

Floats = NDArray[np.float64]


def roc_of(members: Floats, others: Floats) -> Roc:
    """Every threshold at which something changes; a higher score means a member, and equal ones go together."""
    # From the highest score down: each level takes in the patients who reach it.
    levels = np.unique(np.concatenate([members, others]))[::-1]
    fpr = [float((others >= level).mean()) for level in levels]
    tpr = [float((members >= level).mean()) for level in levels]

    return Roc(fpr=(0.0, *fpr), tpr=(0.0, *tpr))


def attack_roc(
    card: ModelCard, sites: Mapping[str, Path], forget: Mapping[str, tuple[str, ...]], state: State, device: str
) -> Roc:
    """Forget against audit patients at the hospitals where somebody revoked."""
    members: list[Floats] = []
    others: list[Floats] = []

    for name, patients in forget.items():
        site = Site(sites[name])
        for group, into in ((patients, members), (site.patients(Subset.AUDIT), others)):
            studies = site.tensors(tuple(site.cohort.of(group).studies))
            into.append(pooled_confidence(card, [studies], state, device)[2])

    return roc_of(np.concatenate(members), np.concatenate(others))
