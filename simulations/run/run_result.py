"""From the stages of a run to `result.json`: what each stage stores, and all models judged side by side."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Literal

import numpy as np
from pydantic import BaseModel

from client.cohort.site import Site
from common.learning.evaluation.decision import decide
from common.learning.evaluation.distance import logit_distance
from common.learning.evaluation.figures import FederationFigures
from common.learning.model.checkpoint import save_checkpoint
from common.learning.records import Subset
from server.campaign.campaign import decision_on
from server.rounds.aggregation import State
from server.rounds.exchanges.meter import Meter
from server.rounds.training import Round
from simulations.result import Cost, DecisionResult, ModelName, Result, RoundRecord
from simulations.run.prepare import Prepared
from simulations.run.settings import SimulationConfig
from simulations.run.to_result import model_result, round_record

Phase = Literal["train", "retrain", "unlearn", "retain", "folds", "references"]


class Outcome(BaseModel):
    """What a stage stores beside its weights, so that an interrupted run can continue after it."""

    rounds: list[Round] = []
    costs: dict[str, dict[str, float]] = {}
    figures: FederationFigures | None = None
    decision: DecisionResult | None = None
    """Of a campaign, where it does not rest on its own audit alone."""


def run_result(
    config: SimulationConfig,
    preparation: Prepared,
    data: dict[str, dict[str, int]],
    states: Mapping[ModelName, State],
    outcomes: Mapping[ModelName, Outcome],
    folds: Meter,
) -> Result:
    """Judge all models and write their weights to `model/`.

    Args:
        data: counts of patients by site and group.
        folds: cost of the fold models.
    """
    before = figures_of(outcomes["original"])
    distances = _distances(preparation, states)
    history: list[RoundRecord] = []
    models = {}
    decisions = {}

    # Judged anew also where a stage was read back: verdicts follow from figures.
    for name, state in states.items():
        figures = figures_of(outcomes[name])
        digest = save_checkpoint(preparation.folder / "model" / name, state, preparation.card)
        models[name] = model_result(figures, digest, distances.get(name))
        experiment = config.experiment
        is_candidate = name in {"unlearned", "naive"}
        verdict = (
            decision_on(before, figures, state, experiment)
            if is_candidate
            else decide(before, figures, experiment.decision)
        )
        decisions[name] = DecisionResult.of(verdict)
        history += [round_record(name, record) for record in outcomes[name].rounds]

    costs: dict[Phase, Cost] = {"train": Cost(**outcomes["original"].costs["train"])}  # type: ignore[arg-type]
    if config.experiment.folds.trainings:
        costs["folds"] = Cost(**asdict(folds))
    if "retrained" in outcomes:
        costs["retrain"] = Cost(**outcomes["retrained"].costs["train"])  # type: ignore[arg-type]
    parts: tuple[Phase, ...] = ("unlearn", "retain")
    for part in parts:
        costs[part] = Cost(**outcomes["unlearned"].costs[part])  # type: ignore[arg-type]

    return Result(
        config=config.model_dump(mode="json"),
        seed=config.experiment.seed,
        versions=versions(),
        data=data,
        models=models,
        history=history,
        cost=costs,
        decision=outcomes["unlearned"].decision or decisions["unlearned"],
        decisions=decisions,
    )


def figures_of(outcome: Outcome) -> FederationFigures:
    """Figures of the audit that ends a stage."""
    if outcome.figures is None:
        raise ValueError("a stage without an audit")
    return outcome.figures


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    names = ("fedforget", "flwr", "torch", "transformers", "scikit-learn", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _distances(preparation: Prepared, states: Mapping[ModelName, State]) -> dict[ModelName, float]:
    """1 - cosine of logits on retain between each model and the retrained one; rows are only read here."""
    if "retrained" not in states:
        return {}
    sites = [Site(preparation.site_folder(name)) for name in preparation.sites]
    gold = [site.scores(states["retrained"], Subset.TRAIN) for site in sites]
    result = {}

    for name, state in states.items():
        pairs = [
            (scores, aim)
            for site, aim in zip(sites, gold, strict=True)
            if aim and (scores := site.scores(state, Subset.TRAIN))
        ]
        studies = [len(aim) for _, aim in pairs]
        # Sites count by their studies, as if all rows lay in one place.
        result[name] = float(np.average([logit_distance(a, b) for a, b in pairs], weights=studies))

    return result
