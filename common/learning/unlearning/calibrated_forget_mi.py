"""Calibrated Forget-MI: move each branch of each forget patient to the never-seen level, and no further."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from common.learning.config import UnlearnConfig
from common.learning.data.tensors import Batch
from common.learning.device import derive_seed
from common.learning.evaluation.matching import majority_labels
from common.learning.evaluation.scores import Scores
from common.learning.micro_batches import FORWARD, MicroBatches
from common.learning.model.image_text import ImageTextModel, Outputs
from common.learning.model.loss import task_loss
from common.learning.training import score
from common.learning.unlearning.base import OnPass, Pass, Unlearned, UnlearnSets, nothing
from common.learning.unlearning.calibration import Aims, drawn_level, patient_mean, true_margin
from common.learning.unlearning.forget_mi import WEIGHTINGS, endless, forget_mi_terms, frozen_outputs


def calibrated(
    model: ImageTextModel,
    sets: UnlearnSets,
    config: UnlearnConfig,
    *,
    ranking_weight: float,
    seed: int,
    on_pass: OnPass = nothing,
) -> Unlearned:
    """Lead margins on forget to out-of-fold targets; keep the paper's retention terms and a task loss on retain.

        L = forget_weight * sum over branches of Huber(margin, target) + w_ur UR + w_mr MR
            - push * (w_uu UU + w_mu MU over patients still above their target) + task_weight * task(retain)

    Ablations: `targets = "fused"` gives image and text no targets; `push_bounded = False` pushes all patients.

    A patient's target is what a fold model says that never saw them, moved to the scale of the *current* model's
    margins on the site's calibration patients, and renewed every `renew` passes; without such a score it is a random
    quantile of these margins. Targets are two-sided, so that a patient is neither remembered nor over-forgotten.
    Branches on which a patient is not to be forgotten are left out. The method stops when every branch is on average
    within `tolerance` of its targets. A step takes all studies of its patients.
    """
    device = next(model.parameters()).device
    teacher = copy.deepcopy(model)
    # The teacher never changes, so one forward of each study serves all passes; it is part of the cost.
    noisy = frozen_outputs(teacher, sets.forget, config, noise_seed=derive_seed(seed, "noise"))
    frozen_retain = frozen_outputs(teacher, sets.retain, config).embeddings
    cost = FORWARD * (len(sets.forget) + len(sets.retain))

    owners = sets.forget.patients
    count = int(owners.max()) + 1
    everyone = torch.from_numpy(owners).to(device)
    labels = sets.forget.labels.to(device)
    branches = torch.from_numpy(sets.forget.branches).float().to(device)
    if config.targets == "fused":
        branches[:2] = 0
    # One consent covers all studies of a patient, so that this mean is 0 or 1.
    owed = patient_mean(branches, everyone, count)
    # Only patients without a fold model's score get a target by rank.
    ranking = patient_mean(true_margin(noisy.logits, labels), everyone, count).double().cpu().numpy()
    forget_labels = majority_labels(Scores(noisy.logits.double().cpu().numpy(), sets.forget.labels.numpy(), owners))

    aims = Aims(ranking, forget_labels, sets.standings, config.fold_targets, drawn_level(seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    rng = np.random.default_rng(derive_seed(seed, "order"))
    retain_batches = endless(sets.retain, config.retain_batch, device, rng)
    micro = MicroBatches(model, config.micro_batch)
    targets = torch.zeros(3, count)
    trace: list[Pass] = []

    for number in range(1, config.passes + 1):
        # The never-seen level moves as the model changes: targets of the first pass would be stale after a few.
        if (number - 1) % config.renew == 0:
            level = score(model, sets.calibration)
            targets = torch.from_numpy(aims.at(level)).float().to(device)
            cost += FORWARD * len(sets.calibration)

        # Without dropout, as the targets were measured: its noise would hide a margin's distance from them.
        model.eval()
        total = 0.0
        gaps = torch.zeros(3)

        # A margin is a mean over a patient's studies. With half of them in another step, the loss could not see it.
        for group in _whole_patients(owners, config.batch, rng):
            rows = np.flatnonzero(np.isin(owners, group)).astype(np.int64)
            forget = sets.forget.batch(rows, device)
            retain = next(retain_batches)
            # Groups are sorted, so the position that `searchsorted` gives is the patient's index in the group.
            where = torch.from_numpy(np.searchsorted(group, owners[rows])).to(device)
            goals = targets[:, torch.from_numpy(group).to(device)]
            loss = _Loss(
                config,
                ranking_weight,
                forget=forget,
                retain=retain,
                where=where,
                goals=goals,
                owed=owed[:, torch.from_numpy(group).to(device)],
                branches=branches[:, rows],
                noisy=noisy.embeddings[:, rows],
                frozen=frozen_retain[:, retain.rows],
            )
            step = micro.step(optimizer, [forget, retain], loss, config.clip)
            total += step.loss * len(group)
            gaps += ((loss.margins(step.outputs[0]) - goals).abs() * loss.owed).sum(dim=1).cpu()
            cost += step.cost

        # A branch on which nobody is to be forgotten has a gap of 0, not 0 / 0.
        gap = gaps / owed.sum(dim=1).cpu().clamp_min(1)
        trace.append(Pass(total / count, (float(gap[0]), float(gap[1]), float(gap[2]))))
        on_pass(number, trace[-1])
        # The worst branch decides: a branch can remember what the others hide.
        if float(gap.max()) < config.tolerance:
            break

    return Unlearned(tuple(trace), cost)


@dataclass(frozen=True, slots=True)
class _Loss:
    """The loss of one step, computed from the outputs for its forget and retain studies.

    Attributes:
        where: `[forget]`, index of each forget study's patient among the step's patients.
        goals: `[3, patients]`, target margins.
        owed: `[3, patients]`, 1 on the branches on which a patient is to be forgotten, otherwise 0.
        branches: `[3, forget]`, the same for each study.
        noisy: `[3, forget, embedding]`, the frozen model's embeddings of noisy copies.
        frozen: `[3, retain, embedding]`, the frozen model's embeddings of the retain studies.
    """

    config: UnlearnConfig
    ranking_weight: float
    forget: Batch
    retain: Batch
    where: Tensor
    goals: Tensor
    owed: Tensor
    branches: Tensor
    noisy: Tensor
    frozen: Tensor

    def __call__(self, outputs: Sequence[Outputs]) -> Tensor:
        forget, retain = outputs
        config = self.config
        weights = WEIGHTINGS[config.weighting]
        margins = self.margins(forget)
        terms = forget_mi_terms(forget.embeddings, self.noisy, retain.embeddings, self.frozen, self.branches)
        # Beyond 1 nat the Huber loss is linear: one patient far from the target does not outweigh the others.
        off_target = huber_loss(margins, self.goals, reduction="none") * self.owed
        loss = config.forget_weight * off_target.mean(dim=1).sum()
        loss = loss + weights.ur * terms.ur.mean() + weights.mr * terms.mr.mean()
        # `task_loss` sums the three branches; the other terms of retain are means.
        loss = loss + config.task_weight * task_loss(retain, self.retain.labels, self.ranking_weight) / 3

        if config.push > 0:
            above = (margins.detach() > self.goals) if config.push_bounded else torch.ones_like(self.goals)
            above = (above * self.owed)[:, self.where]
            # UU joins image and text: a patient above the target on either of them is pushed.
            uu = (terms.uu * above[:2].amax(dim=0)).mean()
            loss = loss - config.push * (weights.uu * uu + weights.mu * (terms.mu * above[2]).mean())

        return loss

    def margins(self, outputs: Outputs) -> Tensor:
        """Current margins of the step's patients, `[3, patients]`."""
        return patient_mean(true_margin(outputs.logits, self.forget.labels), self.where, self.goals.shape[1])


def _whole_patients(owners: np.ndarray, studies: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Sorted groups of patients with about `studies` studies each, in an order drawn from `rng`."""
    patients = rng.permutation(np.unique(owners))
    sizes = np.bincount(owners)[patients]
    group = (np.cumsum(sizes) - sizes) // studies

    # A patient belongs to the group that the studies dealt before them fall into; nobody is divided.
    return [np.sort(patients[group == g]) for g in np.unique(group)]
