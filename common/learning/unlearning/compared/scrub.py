"""SCRUB with rewind: away from the teacher on forget, close to it on retain (Kurmanji et al. 2023, 2302.09880)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import log_softmax

from common.learning.config import UnlearnConfig
from common.learning.data.tensors import Batch
from common.learning.evaluation.matching import control_weights, majority_labels, patient_means
from common.learning.evaluation.scores import Scores
from common.learning.model.image_text import ImageTextModel, Outputs
from common.learning.model.loss import task_loss
from common.learning.training import score
from common.learning.unlearning.base import OnPass, Unlearned, UnlearnSets, nothing
from common.learning.unlearning.forget_mi import frozen_outputs
from common.learning.unlearning.run import Run


def scrub(
    model: ImageTextModel,
    sets: UnlearnSets,
    config: UnlearnConfig,
    *,
    ranking_weight: float,
    seed: int,
    on_pass: OnPass = nothing,
) -> Unlearned:
    """Alternate `max KL(teacher || student)` on forget and `min b KL(teacher || student) + c task` on retain.

    A pass walks the forget set (only in the first `scrub.max_passes` passes), then the retain set. With `scrub.rewind`
    the result is the pass whose error on forget patients is closest to the final error on never-seen calibration
    patients. Keeps a copy of the weights for each pass.
    """
    settings = config.scrub
    run = Run(model, sets, config, seed, on_pass)
    # The student is the teacher until the first step, so the teacher's logits are taken now, once.
    forget_teacher = frozen_outputs(model, sets.forget, config).logits
    retain_teacher = frozen_outputs(model, sets.retain, config).logits
    run.charge(sets.forget, sets.retain)
    errors = list[float]()
    way = list[dict[str, Tensor]]()

    with run.training():
        for number in run.passes():
            # Scoring for the rewind, at the end of a pass, has put the model into eval mode.
            model.train()
            # Later passes walk retain alone, which restores what the steps away from the teacher damaged.
            for forget in run.forget() if number <= settings.max_passes else ():

                def away(outputs: Sequence[Outputs], forget: Batch = forget) -> Tensor:
                    return -divergence(forget_teacher[:, forget.rows], outputs[0].logits)

                run.step([forget], away)

            for retain in run.retain():

                def close(outputs: Sequence[Outputs], retain: Batch = retain) -> Tensor:
                    near = divergence(retain_teacher[:, retain.rows], outputs[0].logits)
                    task = task_loss(outputs[0], retain.labels, ranking_weight)
                    return settings.teacher_weight * near + settings.task_weight * task

                run.step([retain], close)

            run.end_pass()
            if settings.rewind:
                forget_scores = score(model, sets.forget)
                run.charge(sets.forget)
                errors.append(float(patient_errors(forget_scores).mean()))
                way.append(_copy(model))

    if way:
        level = never_seen_error(majority_labels(forget_scores), score(model, sets.calibration))
        run.charge(sets.calibration)
        model.load_state_dict(way[rewind_to(errors, level)])

    return run.done()


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """`KL(teacher || student)` of logits `[3, batch, classes]`, summed over branches, mean over the batch; nats."""
    # The logarithm of a softmax that underflowed would be -inf; `log_softmax` does not underflow.
    log_teacher = log_softmax(teacher, dim=2)
    log_student = log_softmax(student, dim=2)
    return (log_teacher.exp() * (log_teacher - log_student)).sum(dim=2).mean(dim=1).sum()


def rewind_to(errors: Sequence[float], level: float) -> int:
    """Index of the error nearest to `level`; the last of equals, which was trained longest."""
    gaps = np.abs(np.asarray(errors) - level)
    return len(gaps) - 1 - int(np.argmin(gaps[::-1]))


def never_seen_error(forget_labels: NDArray[np.int64], never_seen: Scores) -> float:
    """Error rate on never-seen patients, weighted to the forget patients' label mix; mean of the branches."""
    weights = control_weights(forget_labels, majority_labels(never_seen))
    return float((patient_errors(never_seen) @ weights).mean())


def patient_errors(scores: Scores) -> NDArray[np.float64]:
    """Share of each patient's studies that are misclassified, `[3, patients]`."""
    return patient_means((scores.logits.argmax(axis=2) != scores.labels).astype(float), scores.patients)


def _copy(model: ImageTextModel) -> dict[str, Tensor]:
    # On the CPU, as a copy for each pass would fill a GPU; `copy`, or a CPU model's next step would change it too.
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
