"""FedQUIT: the student learns from a teacher who does not know the true class (Mora et al. 2024, arXiv 2408.07587)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from common.learning.config import UnlearnConfig
from common.learning.data.tensors import Batch
from common.learning.model.image_text import ImageTextModel, Outputs
from common.learning.unlearning.base import OnPass, Unlearned, UnlearnSets, nothing
from common.learning.unlearning.compared.scrub import divergence
from common.learning.unlearning.forget_mi import frozen_outputs
from common.learning.unlearning.run import Run


def fed_quit(
    model: ImageTextModel,
    sets: UnlearnSets,
    config: UnlearnConfig,
    *,
    ranking_weight: float,  # noqa: ARG001 - distillation alone; all methods share one interface
    seed: int,
    on_pass: OnPass = nothing,
) -> Unlearned:
    """`L = KL(virtual teacher || student)` on forget, at the forgetting site; a pass walks the forget set.

    The teacher is the global model with the logit of the true class lowered to its smallest logit. The retention rounds
    restore the utility that the student loses.
    """
    run = Run(model, sets, config, seed, on_pass)
    # Teacher and student are one model: the teacher's logits are taken before the first step changes it.
    teacher = without_true_class(frozen_outputs(model, sets.forget, config).logits, sets.forget.labels.to(run.device))
    run.charge(sets.forget)

    with run.training():
        for _ in run.passes():
            for forget in run.forget():

                def loss_of(outputs: Sequence[Outputs], forget: Batch = forget) -> Tensor:
                    return divergence(teacher[:, forget.rows], outputs[0].logits)

                run.step([forget], loss_of)

            run.end_pass()

    return run.done()


def without_true_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits `[3, n, classes]` with that of the true class as low as the lowest; the others keep their order."""
    index = labels[None, :, None].expand(len(logits), -1, 1)
    return logits.scatter(2, index, logits.min(dim=2, keepdim=True).values)
