"""Supervised training at one site, and scoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.errors import CohortError
from common.learning.config import TrainConfig
from common.learning.data.tensors import StudyTensors
from common.learning.device import derive_seed
from common.learning.evaluation.scores import Scores
from common.learning.micro_batches import FORWARD, MicroBatches
from common.learning.model.image_text import ImageTextModel, Outputs
from common.learning.model.loss import task_loss

__all__ = ["FORWARD", "Fit", "fit", "score"]


@dataclass(frozen=True, slots=True)
class Fit:
    """Result of local training: mean loss per study in the last epoch, and the cost in forward units."""

    loss: float
    cost: float


def fit(
    model: ImageTextModel,
    studies: StudyTensors,
    config: TrainConfig,
    *,
    ranking_weight: float,
    epochs: int,
    seed: int,
) -> Fit:
    """Train `model` in place with AdamW on all of `studies`, `epochs` times, in an order drawn from `seed`.

    Raises:
        CohortError: all patients have withdrawn in the meantime.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    micro = MicroBatches(model, config.micro_batch)
    rng = np.random.default_rng(seed)
    loss_sum = 0.0
    count = 0
    cost = 0.0
    model.train()

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # Within `fork_rng`: the seed must not leak into random numbers of the caller.
        torch.manual_seed(derive_seed(seed, "dropout"))
        for _ in range(epochs):
            loss_sum = 0.0
            count = 0

            for batch in studies.shuffled(config.batch, device, rng):

                def loss_of(outputs: Sequence[Outputs], labels: Tensor = batch.labels) -> Tensor:
                    return task_loss(outputs[0], labels, ranking_weight)

                step = micro.step(optimizer, [batch], loss_of, config.clip)
                loss_sum += step.loss * len(batch)
                count += len(batch)
                cost += step.cost

            if not count:
                raise CohortError("nobody is left to train on")

    return Fit(loss_sum / max(count, 1), cost)


@torch.inference_mode()
def score(model: ImageTextModel, studies: StudyTensors, batch: int = 64) -> Scores:
    """Logits of all `studies` in eval mode, in order. Patients who withdraw in the meantime are left out."""
    device = next(model.parameters()).device
    model.eval()
    micro = MicroBatches(model)
    parts = [(micro.outputs(part).logits.double().cpu(), part.rows) for part in studies.to_score(batch, device)]
    logits = torch.cat([piece for piece, _ in parts], dim=1) if parts else torch.zeros(3, 0, 1, dtype=torch.float64)
    rows = np.concatenate([rows for _, rows in parts]) if parts else np.zeros(0, dtype=np.int64)

    return Scores(logits.numpy(), studies.labels.numpy()[rows], studies.patients[rows], studies.branches[:, rows])
