"""SSD: shrink weights that matter far more to forget than to the rest (Foster et al. 2023, arXiv 2308.07707)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from common.errors import CohortError
from common.learning.config import UnlearnConfig
from common.learning.data.tensors import StudyTensors
from common.learning.device import derive_seed
from common.learning.micro_batches import BACKWARD, FORWARD, forward
from common.learning.model.image_text import ImageTextModel
from common.learning.unlearning.base import OnPass, Pass, Unlearned, UnlearnSets, nothing
from common.learning.unlearning.run import trainable


def ssd(
    model: ImageTextModel,
    sets: UnlearnSets,
    config: UnlearnConfig,
    *,
    ranking_weight: float,  # noqa: ARG001 - importance is of the likelihood; all methods share one interface
    seed: int,
    on_pass: OnPass = nothing,
) -> Unlearned:
    """Shrink each weight by `min(lambda I_r / I_f, 1)` where `I_f > alpha I_r`; no training, one pass, no optimizer.

    `I` is the diagonal of the Fisher information, the mean over studies of the squared gradient of their
    log-likelihood (over the three branches), on forget and on retain. The paper compares with all training
    data; if a tenth of it is forgotten, no weight can then exceed its alpha of 10.
    """
    rng = np.random.default_rng(derive_seed(seed, "order"))
    forget, loss, f = importance(model, sets.forget, rng)
    retain, _, r = importance(model, sets.retain, rng)
    with torch.no_grad():
        for weight, in_forget, in_retain in zip(trainable(model), forget, retain, strict=True):
            weight.mul_(factors(in_forget, in_retain, config.ssd.selection, config.ssd.dampening))

    record = Pass(loss)
    on_pass(1, record)

    return Unlearned((record,), (FORWARD + BACKWARD) * (f + r))


def factors(forget: Tensor, retain: Tensor, selection: float, dampening: float) -> Tensor:
    """Factors in [0, 1] for weights of these importances."""
    # Keeps 0 / 0 away. A weight that forget does not use is not selected in the next line.
    shrunk = (dampening * retain / forget.clamp_min(torch.finfo(forget.dtype).tiny)).clamp(max=1.0)
    return torch.where(forget > selection * retain, shrunk, torch.ones_like(forget))


def importance(
    model: ImageTextModel, studies: StudyTensors, rng: np.random.Generator
) -> tuple[list[Tensor], float, int]:
    """Diagonal Fisher information of all weights that are not frozen, the mean loss in nats, the number of studies.

    Raises:
        CohortError: all patients have withdrawn.
    """
    device = next(model.parameters()).device
    weights = trainable(model)
    total = [torch.zeros_like(weight) for weight in weights]
    losses = 0.0
    count = 0
    model.eval()

    # One study at a time: the square of a batch's mean gradient is not the mean of squares.
    for batch in studies.shuffled(1, device, rng):
        model.zero_grad(set_to_none=True)
        loss = cross_entropy(forward(model, batch).logits.flatten(0, 1), batch.labels.repeat(3), reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        losses += float(loss.detach())
        count += 1
        for place, weight in zip(total, weights, strict=True):
            if weight.grad is not None:
                place.add_(weight.grad.square())

    model.zero_grad(set_to_none=True)
    if not count:
        raise CohortError("nobody is left to retain")
    return [place / count for place in total], losses / count, count
