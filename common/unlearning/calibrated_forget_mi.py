"""Calibrated Forget-MI: each branch of each forget patient is led to the never-seen level, and no further."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch.nn.functional import huber_loss

from common.config import UnlearnConfig
from common.device import derive_seed
from common.evaluation.matching import majority_labels
from common.evaluation.scores import Scores
from common.model.image_text import ImageTextModel
from common.model.loss import task_loss
from common.training import BACKWARD, FORWARD, forward, score, step
from common.unlearning.base import OnPass, Pass, Unlearned, UnlearnSets, nothing
from common.unlearning.calibration import margin_targets, patient_mean, true_margin
from common.unlearning.forget_mi import WEIGHTINGS, endless, forget_mi_terms, frozen_outputs


def calibrated(
    model: ImageTextModel,
    sets: UnlearnSets,
    config: UnlearnConfig,
    *,
    ranking_weight: float,
    seed: int,
    on_pass: OnPass = nothing,
) -> Unlearned:
    """Margin quantile matching on forget, the paper's retention terms and a task loss on retain.

        L = forget_weight * sum over branches of Huber(margin, target) + w_ur UR + w_mr MR
            - push * (w_uu UU + w_mu MU over patients still above their target) + task_weight * task(retain)

    Targets follow the *current* model's margins on the site's calibration patients, renewed every `renew` passes.
    They are two-sided, so that a patient can neither stay remembered nor be over-forgotten.
    Stops when every branch is within `tolerance` of its targets on average. A step takes whole patients.
    """
    device = next(model.parameters()).device
    teacher = copy.deepcopy(model)
    noisy = frozen_outputs(teacher, sets.forget, config, noise_seed=derive_seed(seed, "noise"))
    frozen_retain = frozen_outputs(teacher, sets.retain, config).embeddings
    cost = FORWARD * (len(sets.forget) + len(sets.retain))

    owners = sets.forget.patients
    count = int(owners.max()) + 1
    everyone = torch.from_numpy(owners).to(device)
    labels = sets.forget.labels.to(device)
    ranking = patient_mean(true_margin(noisy.logits, labels), everyone, count).double().cpu().numpy()
    forget_labels = majority_labels(Scores(noisy.logits.double().cpu().numpy(), sets.forget.labels.numpy(), owners))

    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    rng = np.random.default_rng(derive_seed(seed, "order"))
    retain = endless(sets.retain, config.retain_batch, device, rng)
    weights = WEIGHTINGS[config.weighting]
    targets = torch.zeros(3, count)
    trace: list[Pass] = []
    for number in range(1, config.passes + 1):
        if (number - 1) % config.renew == 0:
            level = score(model, sets.calibration)
            targets = torch.from_numpy(margin_targets(ranking, forget_labels, level)).float().to(device)
            cost += FORWARD * len(sets.calibration)
        model.eval()
        total, gaps = 0.0, torch.zeros(3)
        for chosen in _whole_patients(owners, config.batch, rng):
            rows = np.flatnonzero(np.isin(owners, chosen)).astype(np.int64)
            forget, kept = sets.forget.batch(rows, device), next(retain)
            left, right = forward(model, forget), forward(model, kept)
            where = torch.from_numpy(np.searchsorted(chosen, owners[rows])).to(device)
            margins = patient_mean(true_margin(left.logits, forget.labels), where, len(chosen))
            wanted = targets[:, torch.from_numpy(chosen).to(device)]
            terms = forget_mi_terms(
                left.embeddings, noisy.embeddings[:, rows], right.embeddings, frozen_retain[:, kept.rows]
            )
            loss = config.forget_weight * huber_loss(margins, wanted, reduction="none").mean(dim=1).sum()
            loss = loss + weights.ur * terms.ur.mean() + weights.mr * terms.mr.mean()
            loss = loss + config.task_weight * task_loss(right, kept.labels, ranking_weight) / 3
            if config.push > 0:
                above = (margins.detach() > wanted).float()[:, where]
                bounded = (
                    weights.uu * (terms.uu * above[:2].amax(dim=0)).mean() + weights.mu * (terms.mu * above[2]).mean()
                )
                loss = loss - config.push * bounded
            step(model, optimizer, loss, config.clip)
            total += float(loss.detach()) * len(chosen)
            gaps += (margins.detach() - wanted).abs().sum(dim=1).cpu()
            cost += (FORWARD + BACKWARD) * (len(forget) + len(kept))
        gap = gaps / count
        trace.append(Pass(total / count, (float(gap[0]), float(gap[1]), float(gap[2]))))
        on_pass(number, trace[-1])
        if float(gap.max()) < config.tolerance:
            break
    return Unlearned(tuple(trace), cost)


def _whole_patients(owners: np.ndarray, studies: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Sorted groups of patients with about `studies` studies each, in an order drawn from `rng`."""
    patients = rng.permutation(np.unique(owners))
    sizes = np.bincount(owners)[patients]
    group = (np.cumsum(sizes) - sizes) // studies
    return [np.sort(patients[group == g]) for g in np.unique(group)]
