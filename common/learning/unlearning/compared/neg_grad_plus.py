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

    A pass walks the retain set, with a forget batch at each step. The ascent has no end of its own.
    """
    share = config.neg_grad_plus.retain_share
    run = Run(model, sets, config, seed, on_pass)
    forget = run.forget_again_and_again()

    with run.training():
        for _ in run.passes():
            for kept in run.retain():
                gone = next(forget)

                def loss_of(outputs: Sequence[Outputs], kept: Batch = kept, gone: Batch = gone) -> Tensor:
                    left, right = outputs
                    up = task_loss(right, gone.labels, 0.0)
                    return share * task_loss(left, kept.labels, ranking_weight) - (1 - share) * up

                run.step([kept, gone], loss_of)

            run.end_pass()

    return run.done()
