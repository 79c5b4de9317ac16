"""With frozen encoders, heads and fusion are trained again, from the same weights, in the same order."""

from __future__ import annotations

from common.errors import ConfigError
from server.rounds.aggregation import State
from server.rounds.exchanges.meter import Meter
from server.rounds.training import train
from server.rounds.unlearning.base import Task


def train_again(task: Task) -> State:
    """Train as the parent was trained: the same initial weights, seeds and settings, without those who revoked.

    Raises:
        ConfigError: an encoder is trained on patients, or how the parent was trained is not known.
    """
    past = task.known_past()
    # Otherwise the encoders themselves remember, and training heads again would be no exact forgetting.
    if past.card.model.frozen != "both":
        raise ConfigError(
            "exact forgetting needs encoders that no patient was in",
            where="model.frozen",
            remedy='set model.frozen = "both", or use another unlearn.method',
        )
    if past.seed is None:
        raise ConfigError("the seed of the first training was not kept", where="unlearn.method")

    federation = task.federation
    federation.meter = Meter()
    training = train(
        federation,
        past.initial,
        task.config.train,
        past.card,
        seed=past.seed,
        folder=task.folder / "exact",
        on_round=lambda _: None,
        quorum=task.quorum,
    )
    task.meter.add(federation.meter)

    return training.state
