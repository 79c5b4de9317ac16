"""Supervised training at one site, and scoring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from common.config import TrainConfig
from common.data.tensors import Batch, StudyTensors
from common.device import autocast, derive_seed
from common.errors import CohortError
from common.evaluation.scores import Scores
from common.model.image_text import ImageTextModel, Outputs
from common.model.loss import task_loss

FORWARD, BACKWARD = 1.0, 2.0
"""Cost units of one study."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What local training tells: mean loss per study of the last epoch, and its cost in forward units."""

    loss: float
    cost: float


def forward(model: ImageTextModel, batch: Batch) -> Outputs:
    """One forward; outputs in float32 whatever the device computes in."""
    with autocast(batch.images.device):
        outputs = model(batch.images, batch.tokens, batch.mask)
    return Outputs(outputs.embeddings.float(), outputs.logits.float())


def step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, clip: float) -> None:
    """One optimizer step on `loss`, its gradient's norm bounded by `clip`."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()


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
        CohortError: all patients withdrew meanwhile.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    rng = np.random.default_rng(seed)
    loss_sum, seen, cost = 0.0, 0, 0.0
    model.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed(seed, "dropout"))
        for _ in range(epochs):
            loss_sum, seen = 0.0, 0
            for batch in studies.shuffled(config.batch, device, rng):
                loss = task_loss(forward(model, batch), batch.labels, ranking_weight)
                step(model, optimizer, loss, config.clip)
                loss_sum += float(loss.detach()) * len(batch)
                seen += len(batch)
                cost += (FORWARD + BACKWARD) * len(batch)
            if not seen:
                raise CohortError("nobody is left to train on")
    return Fit(loss_sum / max(seen, 1), cost)


@torch.inference_mode()
def score(model: ImageTextModel, studies: StudyTensors, batch: int = 64) -> Scores:
    """Logits of all `studies` in eval mode, in order; costs one forward a study."""
    device = next(model.parameters()).device
    model.eval()
    logits = [forward(model, part).logits.double().cpu() for part in studies.in_order(batch, device)]
    return Scores(torch.cat(logits, dim=1).numpy(), studies.labels.numpy(), studies.patients)
