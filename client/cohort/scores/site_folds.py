"""What a site does with fold models: train each without the patients of its fold, and keep their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from torch import Tensor

from client.cohort.scores.site_scoring import scored_patients
from client.cohort.site_data import FoldPart, SiteData
from common.learning.data.tensors import StudyTensors
from common.learning.device import derive_seed
from common.learning.evaluation.matching import patient_means
from common.learning.folds.margins import Standings, standings
from common.learning.folds.settings import FAMILIES, Family
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Subset
from common.learning.training import FORWARD, Fit, fit, score
from common.protocol.messages import FoldModels, TrainRequest
from common.protocol.several_models import joined, parted

State = Mapping[str, Tensor]
_NEVER_SEEN = (Subset.CALIBRATION, Subset.AUDIT)


Load = Callable[[State], ImageTextModel]
"""Checks weights and loads them into the site's one model."""


def train_fold_models(
    load: Load, state: State, data: SiteData, request: TrainRequest, campaign: int
) -> tuple[State, Fit]:
    """Train each fold model of a request on all training patients but those of its fold.

    Returns the joined weights. A model comes back unchanged where its fold holds all patients of the site.
    """
    folds = _models(request.folds)
    states = {}
    losses = []
    cost = 0.0

    for one, weights in zip(folds.models, parted(state, folds.keys).values(), strict=True):
        model = load(weights)
        studies = data.to_learn(Subset.TRAIN, campaign, FoldPart(folds.lineage, one))
        if studies is not None:
            training = fit(
                model,
                studies,
                request.config,
                ranking_weight=data.file.card.model.ranking_weight,
                epochs=request.epochs,
                seed=derive_seed(request.seed, data.file.name, one.key, request.round),
            )
            losses.append(training.loss)
            cost += training.cost
        # Cloned: the next model is loaded into the same tensors.
        states[one.key] = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}

    return joined(states), Fit(float(np.mean(losses)) if losses else 0.0, cost)


def keep_fold_scores(load: Load, state: State, data: SiteData, folds: FoldModels | None) -> float:
    """Score fold models and keep the margins: of the patients of each one's fold, and of never-seen patients.

    Returns the cost. Nobody who has revoked is scored.
    """
    folds = _models(folds)
    cost = 0.0

    for one, weights in zip(folds.models, parted(state, folds.keys).values(), strict=True):
        model = load(weights)
        members, members_cost = _margins(model, data.to_score(Subset.TRAIN, FoldPart(folds.lineage, one)))
        controls: dict[str, list[float]] = {}
        for subset in _NEVER_SEEN:
            margins, margins_cost = _margins(model, data.to_score(subset))
            controls |= margins
            cost += margins_cost

        cost += members_cost
        data.fold_scores.keep(folds.lineage, one.family, one.number, members, controls)

    return cost


def standings_of(
    data: SiteData, forget: StudyTensors, calibration: StudyTensors, how: Literal["scaled", "raw", "mean", "off"]
) -> Standings | None:
    """Where the patients of `forget` stand among calibration patients by fold models; None without any."""
    patients = list(dict.fromkeys(study.patient for study in forget.studies))
    controls = list(dict.fromkeys(study.patient for study in calibration.studies))
    families: tuple[Family, ...] = FAMILIES if how == "mean" else ("targets",)
    scores = [data.fold_scores.read(family, patients, controls) for family in families]
    fold_standings = [standings(one) for one in scores if one is not None]
    if how == "off" or not fold_standings:
        return None

    return Standings(
        np.mean([one.raw for one in fold_standings], axis=0), np.mean([one.scaled for one in fold_standings], axis=0)
    )


def _margins(model: ImageTextModel, studies: StudyTensors | None) -> tuple[dict[str, list[float]], float]:
    """Mean margins `[3]` of each patient, and the cost."""
    if studies is None:
        return {}, 0.0
    rows = score(model, studies)
    if not len(rows):
        return {}, 0.0
    means = patient_means(rows.margin, rows.patients)
    patients = scored_patients(studies, rows)

    return dict(zip(patients, means.T.tolist(), strict=True)), FORWARD * len(rows)


def _models(folds: FoldModels | None) -> FoldModels:
    if folds is None:
        raise ValueError("no fold models")
    return folds
