"""NegGrad+: descent on retain and ascent on forget at once (Kurmanji et al. 2023, arXiv 2302.09880)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from common.learning.config import UnlearnConfig
from common.learning.data.tensors import Batch
from common.learning.model.image_text import ImageTextModel, Outputs
from common.learning.model.loss import task_loss
from common.learning.unlearning.base import OnPass, Unlearned, UnlearnSets, nothing
from common.learning.unlearning.run import Run


def neg_grad_plus(
    model: ImageTextModel,
    sets: UnlearnSets,
    config: UnlearnConfig,
    *,
    ranking_weight: float,
    seed: int,
    on_pass: OnPass = nothing,
) -> Unlearned:
    """`L = a task(retain) - (1 - a) CE(forget)` with a = `neg_grad_plus.retain_share`.

    A pass walks the retain set, with a forget batch at each step. The ascent has no bound of its own.
    """
    share = config.neg_grad_plus.retain_share
    run = Run(model, sets, config, seed, on_pass)
    forget_batches = run.forget_again_and_again()

    with run.training():
        for _ in run.passes():
            for retain in run.retain():
                forget = next(forget_batches)

                def loss_of(outputs: Sequence[Outputs], retain: Batch = retain, forget: Batch = forget) -> Tensor:
                    retain_outputs, forget_outputs = outputs
                    up = task_loss(forget_outputs, forget.labels, 0.0)
                    return share * task_loss(retain_outputs, retain.labels, ranking_weight) - (1 - share) * up

                run.step([retain, forget], loss_of)

            run.end_pass()

    return run.done()
