"""Relearning: how few steps on the forget set restore a memory, compared with a model that never had it.

A model that only hides its memory recovers it quickly (relearn time of Golatkar et al. 2020,
arXiv 1911.04933; anamnesis index of Chundawat et al. 2023, arXiv 2201.05629).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from common.learning.config import TrainConfig
from common.learning.data.tensors import StudyTensors
from common.learning.device import derive_seed
from common.learning.micro_batches import MicroBatches
from common.learning.model.image_text import ImageTextModel, Outputs
from common.learning.model.loss import task_loss

OnStep = Callable[[int, float], None]
"""Called with the number of steps taken, from 0, and the measurement after them."""


def nothing(number: int, value: float) -> None:
    """An `OnStep` that does nothing."""


def relearn(
    model: ImageTextModel,
    forget: StudyTensors,
    config: TrainConfig,
    measure: Callable[[ImageTextModel], float],
    *,
    steps: int,
    ranking_weight: float,
    seed: int,
    on_step: OnStep = nothing,
) -> tuple[float, ...]:
    """Train `model` in place on the forget set; returns `measure` before and after each of `steps` steps.

    The same seed gives the same batches, so that curves of several models can be compared step by step. `measure` may
    put the model in eval mode.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    micro = MicroBatches(model, config.micro_batch)
    rng = np.random.default_rng(derive_seed(seed, "relearning"))
    curve = [measure(model)]
    on_step(0, curve[0])

    # Dropout draws from torch's global state, which must be the caller's again afterwards.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed(seed, "dropout"))
        while len(curve) <= steps:
            for batch in forget.shuffled(config.batch, device, rng):
                if len(curve) > steps:
                    break

                def loss_of(outputs: Sequence[Outputs], labels: Tensor = batch.labels) -> Tensor:
                    return task_loss(outputs[0], labels, ranking_weight)

                model.train()
                micro.step(optimizer, [batch], loss_of, config.clip)
                curve.append(measure(model))
                on_step(len(curve) - 1, curve[-1])

    return tuple(curve)


def steps_to(curve: Sequence[float], level: float) -> int | None:
    """Steps until a falling figure, e.g. the mean loss on forget, first reaches `level`; None if never."""
    return next((number for number, value in enumerate(curve) if value <= level), None)


def anamnesis(unlearned: Sequence[float], retrained: Sequence[float], level: float) -> float | None:
    """Steps of the unlearned model to `level` over those of the retrained one: 1 is the aim, below it remembers.

    One is added to each count, so that a model that never forgot does not get 0. None if either does not reach the
    level.
    """
    ours = steps_to(unlearned, level)
    theirs = steps_to(retrained, level)
    return None if ours is None or theirs is None else (ours + 1) / (theirs + 1)
