"""Retraining: new weights, trained on everybody who has not revoked. What all other methods are measured by."""

from __future__ import annotations

from common.learning.device import derive_seed
from server.rounds.aggregation import State
from server.rounds.exchanges.meter import Meter
from server.rounds.training import train
from server.rounds.unlearning.base import Task


def retrain(task: Task) -> State:
    """Train anew as the parent was trained, from the same initial weights, to the same validation patience."""
    past = task.known_past()
    federation = task.federation
    federation.meter = Meter()
    training = train(
        federation,
        past.initial,
        task.config.train,
        past.card,
        seed=derive_seed(task.config.seed, "retrained") % 2**31,
        folder=task.folder / "retrain",
        on_round=lambda _: None,
        quorum=task.quorum,
    )
    task.meter.add(federation.meter)

    return training.state
