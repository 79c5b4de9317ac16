"""Fine-tuning: continue training without the forget patients, hoping that the model forgets by itself.

The weakest baseline in the field, e.g. in Golatkar et al. 2020 (arXiv 1911.04933).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from common.learning.config import UnlearnConfig
from common.learning.data.tensors import Batch
from common.learning.model.image_text import ImageTextModel, Outputs
from common.learning.model.loss import task_loss
from common.learning.unlearning.base import OnPass, Unlearned, UnlearnSets, nothing
from common.learning.unlearning.run import Run


def fine_tune(
    model: ImageTextModel,
    sets: UnlearnSets,
    config: UnlearnConfig,
    *,
    ranking_weight: float,
    seed: int,
    on_pass: OnPass = nothing,
) -> Unlearned:
    """`L = task(retain)`; a pass walks the retain set. The forget set is not read."""
    run = Run(model, sets, config, seed, on_pass)
    learn_retain(run, ranking_weight)
    return run.done()


def learn_retain(run: Run, ranking_weight: float) -> None:
    """All passes of `run` over the retain set, on the training loss."""
    with run.training():
        for _ in run.passes():
            for retain in run.retain():

                def loss_of(outputs: Sequence[Outputs], retain: Batch = retain) -> Tensor:
                    return task_loss(outputs[0], retain.labels, ranking_weight)

                run.step([retain], loss_of)

            run.end_pass()
