"""Fold models of a simulated federation, beside a model that it has trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.learning.config import ExperimentConfig
from common.learning.device import derive_seed
from common.learning.model.checkpoint import ModelCard
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.fold_training import OnFoldRound, train_folds
from server.rounds.training import Round


def folds_beside(
    federation: Federation,
    experiment: ExperimentConfig,
    card: ModelCard,
    rounds: Sequence[Round],
    *,
    lineage: str,
    folder: Path,
    on_round: OnFoldRound = lambda *_: None,
) -> Meter:
    """Train the fold models for as many rounds as `rounds` kept of their model; returns their cost.

    Fold models that `folder` says are finished are not trained again.
    """
    folds = train_folds(
        federation,
        experiment.folds,
        experiment.train,
        card,
        lineage=lineage,
        # As long as the original learned: a patient's fold scores stand for a model of its kind that never saw them.
        rounds=max(1, next(record.round for record in rounds if record.kept)),
        seed=derive_seed(experiment.seed, "folds") % 2**31,
        folder=folder,
        on_round=on_round,
    )

    return Meter.of(folds.cost)
