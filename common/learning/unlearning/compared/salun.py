"""SalUn: wrong labels on forget, learnt by the weights that matter most to it (Fan et al. 2023, arXiv 2310.12508)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from common.learning.config import UnlearnConfig
from common.learning.data.tensors import Batch
from common.learning.micro_batches import BACKWARD, FORWARD, forward
from common.learning.model.image_text import ImageTextModel, Outputs
from common.learning.model.loss import task_loss
from common.learning.unlearning.base import OnPass, Unlearned, UnlearnSets, nothing
from common.learning.unlearning.run import Run, trainable


def salun(
    model: ImageTextModel,
    sets: UnlearnSets,
    config: UnlearnConfig,
    *,
    ranking_weight: float,
    seed: int,
    on_pass: OnPass = nothing,
) -> Unlearned:
    """`L = CE(forget, random wrong label) + salun.retain_weight task(retain)` on the salient weights alone.

    Salient are the share `salun.share` of weights with the largest absolute gradient of the forget loss before the run;
    all others keep their old value. A pass walks the retain set, with a forget batch at each step; wrong labels are
    drawn anew for each forget batch.
    """
    run = Run(model, sets, config, seed, on_pass)
    weights = trainable(model)
    before = [parameter.detach().clone() for parameter in weights]
    gradient, classes = _forget_gradient(model, sets, config, run)
    masks = salient([g.abs() for g in gradient], config.salun.share)
    forget_batches = run.forget_again_and_again()

    with run.training():
        for _ in run.passes():
            for retain in run.retain():
                forget = next(forget_batches)
                wrong = wrong_labels(forget.labels, classes, run.rng)

                def loss_of(outputs: Sequence[Outputs], retain: Batch = retain, wrong: Tensor = wrong) -> Tensor:
                    retain_outputs, forget_outputs = outputs
                    keep = config.salun.retain_weight * task_loss(retain_outputs, retain.labels, ranking_weight)
                    return task_loss(forget_outputs, wrong, 0.0) + keep

                run.step([retain, forget], loss_of)
                # Masked gradients would not do: AdamW moves weights by decay and momentum, too.
                _restore(weights, before, masks)

            run.end_pass()

    return run.done()


def salient(sizes: Sequence[Tensor], share: float) -> list[Tensor]:
    """Masks of tensors of absolute gradients: true for the largest `share` of all values, never for a zero."""
    flat = torch.cat([size.reshape(-1) for size in sizes])
    count = round(share * len(flat))
    # `kthvalue` knows no rank beyond the last: a share too small for one weight selects none.
    if not count:
        return [torch.zeros_like(size, dtype=torch.bool) for size in sizes]
    least = flat.kthvalue(len(flat) - count + 1).values

    return [(size >= least) & (size > 0) for size in sizes]


def wrong_labels(labels: Tensor, classes: int, rng: np.random.Generator) -> Tensor:
    """A uniformly drawn wrong label for each study: `[batch]` to `[batch]`."""
    # A shift of 1 to classes - 1 never comes back to the true label, and reaches each wrong one alike.
    shift = torch.from_numpy(rng.integers(1, classes, len(labels))).to(labels.device)
    return (labels + shift) % classes


def _forget_gradient(
    model: ImageTextModel, sets: UnlearnSets, config: UnlearnConfig, run: Run
) -> tuple[list[Tensor], int]:
    """Gradient of the summed cross-entropy of all forget studies (0 for unused weights), and the number of classes."""
    classes = 0
    model.eval()
    model.zero_grad(set_to_none=True)

    # Gradients of sums add up to that of the whole set, however it is cut into batches.
    for batch in sets.forget.in_order(config.micro_batch or config.batch, run.device):
        logits = forward(model, batch).logits
        classes = logits.shape[2]
        loss = cross_entropy(logits.flatten(0, 1), batch.labels.repeat(3), reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped

    run.cost += (FORWARD + BACKWARD) * len(sets.forget)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in trainable(model)]
    model.zero_grad(set_to_none=True)

    return gradients, classes


@torch.no_grad()
def _restore(weights: Sequence[nn.Parameter], before: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
    for weight, old, mask in zip(weights, before, masks, strict=True):
        weight.copy_(torch.where(mask, weight, old))
