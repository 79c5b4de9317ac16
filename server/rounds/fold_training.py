"""Fold models: trained beside the first model of a lineage, scored at the sites, and destroyed.

All that fit in a message travel together, so that they take the exchanges of one training. What remains of them is a
score of each patient at the patient's own site.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel
from torch import Tensor

from common.files import write_text
from common.learning.config import FoldsConfig, TrainConfig
from common.learning.device import derive_seed
from common.learning.folds.settings import FAMILIES
from common.learning.model.checkpoint import ModelCard, load_checkpoint, save_checkpoint
from common.protocol.messages import TRAIN, EvaluateRequest, FoldModel, FoldModels
from common.protocol.several_models import joined, joined_names, parted
from server.rounds.aggregation import State
from server.rounds.exchanges.downlink import Downlink
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.selection import evaluate
from server.rounds.training import average_round

OnFoldRound = Callable[[int, int], None]
"""Called after each exchange of training with the number of those finished, and of all."""


class Folded(BaseModel):
    """The fold models of a lineage: what they cost, and which sites have no scores of some."""

    cost: dict[str, float] = {}
    without: tuple[str, ...] = ()


class _Progress(BaseModel):
    groups: int = 0
    """Groups of models that are finished."""
    rounds: int = 0
    """Finished rounds of the group after them."""
    folded: Folded = Folded()


def fold_models(config: FoldsConfig) -> tuple[FoldModel, ...]:
    """All models of both families."""
    return tuple(
        FoldModel(family=family, number=number, of=config.count(family))
        for family in FAMILIES
        for number in range(config.count(family))
    )


def groups_of(models: Sequence[FoldModel], model_bytes: int, most: int) -> list[tuple[FoldModel, ...]]:
    """Groups of models that travel together, each of at most `most` bytes or of one model."""
    size = max(1, most // max(1, model_bytes))
    return [tuple(models[start : start + size]) for start in range(0, len(models), size)]


def train_folds(
    federation: Federation,
    config: FoldsConfig,
    training: TrainConfig,
    card: ModelCard,
    *,
    lineage: str,
    rounds: int,
    seed: int,
    folder: Path,
    on_round: OnFoldRound = lambda *_: None,
    quorum: float = 0.0,
) -> Folded:
    """Train the fold models for `rounds` rounds and have the sites keep their scores; their weights are deleted.

    Args:
        federation: its meter counts this alone afterwards.
        config: how many there are.
        training: as of the model that they stand beside.
        card: of that model.
        lineage: name of the training, under which the sites deal the folds and keep the scores.
        rounds: those of the model that they stand beside, up to the one that was kept.
        seed: of the lineage; each model has initial weights and an order of its own.
        folder: for what an interrupted run is gone on from; empty but for a record afterwards.
        on_round: see `OnFoldRound`.
        quorum: see `average_round`.

    Raises:
        UnavailableError: too few sites took part.
    """
    # What an interrupted run left, read before the meter starts, so that its cost counts on.
    progress_file = folder / "progress.json"
    progress = _Progress()
    if progress_file.exists():
        progress = _Progress.model_validate_json(progress_file.read_bytes())

    federation.meter = Meter.of(progress.folded.cost)
    usual = federation.downlink
    moving = [tensor for name, tensor in card.build(0).state_dict().items() if name not in usual.frozen]
    model_bytes = sum(tensor.numel() * tensor.element_size() for tensor in moving)
    groups = groups_of(fold_models(config), model_bytes, config.message_bytes)

    def note(**changes: object) -> None:
        nonlocal progress
        folds = progress.folded.model_copy(update={"cost": asdict(federation.meter)})
        progress = progress.model_copy(update={"folded": folds, **changes})
        write_text(progress_file, progress.model_dump_json())

    try:
        for at in range(progress.groups, len(groups)):
            models = FoldModels(lineage=lineage, models=groups[at])
            # A downlink of its own: the errors of rounding and the bases of this line of rounds are of other models.
            federation.downlink = Downlink(usual.precision, joined_names(usual.frozen, models.keys), usual.encoders)
            weights = folder / f"group-{at}"
            state = _begun(federation, models, card, seed, weights / str(progress.rounds), progress.rounds)

            for number in range(progress.rounds, rounds):
                state, _ = average_round(
                    federation,
                    TRAIN,
                    state,
                    federation.shares(federation.retained(federation.status())),
                    training,
                    epochs=training.local_epochs,
                    number=number,
                    seed=derive_seed(seed, "folds") % 2**31,
                    quorum=quorum,
                    folds=models,
                )
                # Weights, then the record that refers to them, then the older weights go: killed in between, one pair
                # is whole.
                _save(state, models, card, weights / str(number + 1))
                note(rounds=number + 1)
                shutil.rmtree(weights / str(number), ignore_errors=True)
                on_round(at * rounds + number + 1, len(groups) * rounds)

            request = EvaluateRequest(purpose="folds", seed=seed, folds=models)
            sites_with_scores = {name for name, _ in evaluate(federation, state, request)}
            del state
            shutil.rmtree(weights)
            without = {*progress.folded.without, *(set(federation.sites) - sites_with_scores)}
            progress = progress.model_copy(
                update={"folded": progress.folded.model_copy(update={"without": tuple(sorted(without))})}
            )
            note(groups=at + 1, rounds=0)
    # Whatever happens, the federation goes on with its own line of rounds.
    finally:
        federation.downlink = usual

    return progress.folded


def _begun(federation: Federation, models: FoldModels, card: ModelCard, seed: int, saved: Path, rounds: int) -> State:
    """Initial weights of a group, or those after the rounds that an interrupted run has finished."""
    if rounds:
        states = {key: load_checkpoint(saved / key, card)[0] for key in models.keys}
        federation.downlink.begin()
        return joined(states)
    initial = {one.key: card.build(derive_seed(seed, one.key) % 2**31).state_dict() for one in models.models}

    return federation.downlink.start(joined(initial))


def _save(state: Mapping[str, Tensor], models: FoldModels, card: ModelCard, folder: Path) -> None:
    for key, weights in parted(state, models.keys).items():
        save_checkpoint(folder / key, weights, card)
