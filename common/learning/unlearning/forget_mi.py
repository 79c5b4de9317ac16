"""Forget-MI (arXiv 2506.23145, MICCAI 2025): its four terms, and the method as published.

`calibrated_forget_mi.py` has the variant that stops at the never-seen level.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.errors import CohortError
from common.learning.config import UnlearnConfig, Weights
from common.learning.data.imaging.noise import noisy_images, noisy_report
from common.learning.data.tensors import Batch, StudyTensors
from common.learning.device import derive_seed
from common.learning.micro_batches import FORWARD, MicroBatches
from common.learning.model.image_text import ImageTextModel, Outputs
from common.learning.unlearning.base import OnPass, Pass, Unlearned, UnlearnSets, distance, nothing

WEIGHTINGS = {
    "equal": Weights(uu=0.25, ur=0.25, mu=0.25, mr=0.25),
    "unimodal": Weights(uu=0.4, ur=0.4, mu=0.1, mr=0.1),
    "multimodal": Weights(uu=0.1, ur=0.1, mu=0.4, mr=0.4),
    "retention": Weights(uu=0.1, ur=0.4, mu=0.1, mr=0.4),
}
"""The weightings of the paper, under its names."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The four terms per study, all distances `>= 0`; the paper subtracts `uu` and `mu`, and adds `ur` and `mr`.

    Attributes:
        uu: `[forget]`, unimodal: image and text embeddings, concatenated, against the frozen noisy ones.
        mu: `[forget]`, multimodal: fused embeddings against the frozen noisy ones.
        ur: `[retain]`, unimodal retention.
        mr: `[retain]`, multimodal retention.
    """

    uu: Tensor
    mu: Tensor
    ur: Tensor
    mr: Tensor

    def loss(self, weights: Weights) -> Tensor:
        """`-w_uu UU + w_ur UR - w_mu MU + w_mr MR`, each averaged over its batch."""
        push = weights.uu * self.uu.mean() + weights.mu * self.mu.mean()
        return weights.ur * self.ur.mean() + weights.mr * self.mr.mean() - push


def forget_mi_terms(
    forget: Tensor, forget_frozen: Tensor, retain: Tensor, retain_frozen: Tensor, branches: Tensor
) -> Terms:
    """The four terms from embeddings `[3, batch, d]` of the trained copy and of the frozen model.

    `branches`, `[3, forget]` of zeros and ones, removes from UU and MU the branches on which a study is not forgotten.
    """
    # Zeros on both sides: the distance of such a branch is 0 and has no gradient.
    now = forget * branches[..., None]
    before = forget_frozen * branches[..., None]

    return Terms(
        uu=distance(_unimodal(now), _unimodal(before)),
        mu=distance(now[2], before[2]),
        ur=distance(_unimodal(retain), _unimodal(retain_frozen)),
        mr=distance(retain[2], retain_frozen[2]),
    )


def _unimodal(embeddings: Tensor) -> Tensor:
    return torch.cat([embeddings[0], embeddings[1]], dim=1)


def noisy_copy(batch: Batch, studies: StudyTensors, config: UnlearnConfig, seed: int) -> Batch:
    """The batch with noise on images, text, both or neither (`config.noise`); without noise, the very same tensors.

    Where a frozen tower has made features of the inputs, the noisy copies are inputs again: the model encodes them.
    """
    images = batch.images
    tokens = batch.tokens
    mask = batch.mask
    if config.noise in {"image", "both"}:
        # Features of a frozen tower have no pixels to add noise to.
        if images.ndim == 2:
            images = studies.pixels(batch.rows, images.device)
        # A generator of its own: the noise must not depend on what was drawn before.
        generator = torch.Generator(device=images.device).manual_seed(derive_seed(seed, "pixels"))
        images = noisy_images(images, config.image_noise, generator)

    if config.noise in {"text", "both"}:
        rng = np.random.default_rng(derive_seed(seed, "words"))
        reports = [noisy_report(studies.studies[row].report, config.text_noise, rng) for row in batch.rows]
        ids, there = studies.tokenizer.encode(reports)
        tokens = torch.from_numpy(ids).to(tokens.device)
        mask = torch.from_numpy(there).to(mask.device)

    return Batch(images, tokens, mask, batch.labels, batch.rows)


@torch.no_grad()
def frozen_outputs(
    model: ImageTextModel, studies: StudyTensors, config: UnlearnConfig, noise_seed: int | None = None
) -> Outputs:
    """Embeddings `[3, n, d]` and logits of all `studies` in eval mode; of noisy copies if there is a `noise_seed`."""
    model.eval()
    device = next(model.parameters()).device
    micro = MicroBatches(model, config.micro_batch)
    parts = []
    # A seed for each batch; one for all would repeat the same noise in every batch.
    for number, batch in enumerate(studies.in_order(config.batch, device)):
        view = batch if noise_seed is None else noisy_copy(batch, studies, config, derive_seed(noise_seed, number))
        parts.append(micro.outputs(view))

    return Outputs(torch.cat([p.embeddings for p in parts], dim=1), torch.cat([p.logits for p in parts], dim=1))


def paper(
    model: ImageTextModel,
    sets: UnlearnSets,
    config: UnlearnConfig,
    *,
    ranking_weight: float,  # noqa: ARG001 - the paper has no task loss; all methods share one interface
    seed: int,
    on_pass: OnPass = nothing,
) -> Unlearned:
    """Forget-MI as published: unbounded push, one step per batch, a fixed number of passes over the forget set.

    Retain batches cycle through the whole retain set. The frozen model is in eval mode and runs once per study.
    """
    device = next(model.parameters()).device
    teacher = copy.deepcopy(model)
    frozen_forget = frozen_outputs(teacher, sets.forget, config, noise_seed=derive_seed(seed, "noise")).embeddings
    frozen_retain = frozen_outputs(teacher, sets.retain, config).embeddings
    cost = FORWARD * (len(sets.forget) + len(sets.retain))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    rng = np.random.default_rng(derive_seed(seed, "order"))
    retain_batches = endless(sets.retain, config.retain_batch, device, rng)
    micro = MicroBatches(model, config.micro_batch)
    branches = torch.from_numpy(sets.forget.branches).float().to(device)
    trace = []
    model.eval()

    for number in range(1, config.passes + 1):
        total = 0.0
        for forget in sets.forget.shuffled(config.batch, device, rng):
            retain = next(retain_batches)

            # The defaults bind this step's batches; the loop gives the names new ones.
            def loss_of(outputs: Sequence[Outputs], forget: Batch = forget, retain: Batch = retain) -> Tensor:
                forget_embeddings, retain_embeddings = (one.embeddings for one in outputs)
                frozen = frozen_forget[:, forget.rows], frozen_retain[:, retain.rows]
                terms = forget_mi_terms(
                    forget_embeddings, frozen[0], retain_embeddings, frozen[1], branches[:, forget.rows]
                )
                return terms.loss(WEIGHTINGS[config.weighting])

            step = micro.step(optimizer, [forget, retain], loss_of, config.clip)
            # The last batch may be smaller, so the mean of a pass weighs steps by their studies.
            total += step.loss * len(forget)
            cost += step.cost

        trace.append(Pass(total / len(sets.forget)))
        on_pass(number, trace[-1])

    return Unlearned(tuple(trace), cost)


def endless(studies: StudyTensors, size: int, device: torch.device, rng: np.random.Generator) -> Iterator[Batch]:
    """Batches of all studies, without end, in a new order each time.

    Raises:
        CohortError: all patients have withdrawn.
    """
    while True:
        # An empty walk would loop for ever: patients may withdraw between two batches.
        count = 0
        for batch in studies.shuffled(size, device, rng):
            count += 1
            yield batch

        if not count:
            raise CohortError("nobody is left to retain")
