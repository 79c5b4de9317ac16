"""PGA: projected gradient ascent around a reference model (Halimi et al. 2022, arXiv 2207.05521)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from common.learning.config import UnlearnConfig
from common.learning.data.tensors import Batch
from common.learning.device import derive_seed
from common.learning.model.blocks import reset
from common.learning.model.image_text import ImageTextModel, Outputs
from common.learning.model.loss import task_loss
from common.learning.unlearning.base import OnPass, Unlearned, UnlearnSets, nothing
from common.learning.unlearning.run import Run, trainable

DRAWS = 3
"""Random models whose mean distance is the unit of the radius."""


def pga(
    model: ImageTextModel,
    sets: UnlearnSets,
    config: UnlearnConfig,
    *,
    ranking_weight: float,  # noqa: ARG001 - ascent is on the cross-entropy; all methods share one interface
    seed: int,
    on_pass: OnPass = nothing,
) -> Unlearned:
    """`L = -CE(forget)` by SGD, each step projected on a ball around the received model; a pass walks the forget set.

    The received model is the reference: the mean of the other sites' models, see `server/rounds/unlearning/pga.py`. The
    radius is `pga.radius` times the mean distance from it to random models; the paper uses a third.
    """
    weights = trainable(model)
    centre = [weight.detach().clone() for weight in weights]
    radius = config.pga.radius * _distance_to_random(model, seed)
    optimizer = torch.optim.SGD(weights, lr=config.lr)
    run = Run(model, sets, config, seed, on_pass, optimizer)

    with run.training():
        for _ in run.passes():
            for forget in run.forget():

                def loss_of(outputs: Sequence[Outputs], forget: Batch = forget) -> Tensor:
                    return -task_loss(outputs[0], forget.labels, 0.0)

                run.step([forget], loss_of)
                project(weights, centre, radius)

            run.end_pass()

    return run.done()


@torch.no_grad()
def project(weights: Sequence[Tensor], centre: Sequence[Tensor], radius: float) -> None:
    """Move `weights`, all of them together, to the nearest point at most `radius` (L2) from `centre`."""
    away = _length([w - c for w, c in zip(weights, centre, strict=True)])
    if away > radius:
        for weight, middle in zip(weights, centre, strict=True):
            weight.copy_(middle + (weight - middle) * (radius / away))


@torch.no_grad()
def _distance_to_random(model: ImageTextModel, seed: int) -> float:
    weights = trainable(model)
    names = frozenset(name for name, _ in model.named_parameters())
    here = [weight.detach().clone() for weight in weights]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    total = 0.0
    for draw in range(DRAWS):
        reset(model, names, derive_seed(seed, "random", draw))
        total += _length([w - c for w, c in zip(weights, here, strict=True)])

    for weight, old in zip(weights, here, strict=True):
        weight.copy_(old)
    for buffer, value in buffers:  # resetting a BatchNorm resets its statistics too
        buffer.copy_(value)
    return total / DRAWS


def _length(parts: Sequence[Tensor]) -> float:
    # In float64: a sum of millions of single-precision squares would lose the small ones.
    return float(sum(float(part.double().square().sum()) for part in parts) ** 0.5)
