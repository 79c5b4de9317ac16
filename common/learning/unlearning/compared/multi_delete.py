"""MultiDelete: make forget pairs look like mismatched pairs (Cheng & Amiri 2023, arXiv 2311.12047)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from common.errors import CohortError
from common.learning.config import UnlearnConfig
from common.learning.data.tensors import Batch, StudyTensors
from common.learning.micro_batches import MicroBatches
from common.learning.model.image_text import ImageTextModel, Outputs
from common.learning.unlearning.base import OnPass, Unlearned, UnlearnSets, nothing
from common.learning.unlearning.forget_mi import frozen_outputs
from common.learning.unlearning.run import Run


def multi_delete(
    model: ImageTextModel,
    sets: UnlearnSets,
    config: UnlearnConfig,
    *,
    ranking_weight: float,  # noqa: ARG001 - the paper has no task loss; all methods share one interface
    seed: int,
    on_pass: OnPass = nothing,
) -> Unlearned:
    """Modality decoupling on forget, unimodal and multimodal knowledge retention on retain, all mean squared errors.

        L = a MSE(F(I_f, T_f), F_og(I_p, T_q)) + b MSE([F(I_r), F(T_r)], [F_og(I_r), F_og(T_r)])
            + c MSE(F(I_r, T_r), F_og(I_r, T_r))

    with p and q two retain studies, drawn anew for each forget study. A pass walks the retain set, with a forget batch
    at each step.

    Raises:
        CohortError: there is only one retain study, so no other report to pair it with.
    """
    run = Run(model, sets, config, seed, on_pass)
    frozen = frozen_outputs(model, sets.retain, config).embeddings
    mismatches = unpaired_embeddings(model, sets.retain, config, run.rng)
    # One forward of the retained pairs, one with the reports exchanged.
    run.charge(sets.retain, sets.retain)
    forget_batches = run.forget_again_and_again()

    with run.training():
        for _ in run.passes():
            for retain in run.retain():
                forget = next(forget_batches)
                aim = mismatches[torch.from_numpy(run.rng.integers(0, len(mismatches), len(forget)))]

                def loss_of(outputs: Sequence[Outputs], retain: Batch = retain, aim: Tensor = aim) -> Tensor:
                    retain_embeddings, forget_embeddings = (one.embeddings for one in outputs)
                    return decoupling_loss(retain_embeddings, frozen[:, retain.rows], forget_embeddings, aim, config)

                run.step([retain, forget], loss_of)

            run.end_pass()

    return run.done()


def decoupling_loss(retain: Tensor, frozen: Tensor, forget: Tensor, unpaired: Tensor, config: UnlearnConfig) -> Tensor:
    """The weighted sum, of embeddings `[3, batch, d]` of trained and frozen model; `unpaired` is `[forget, d]`."""
    weights = config.multi_delete
    return (
        weights.decoupling * mse_loss(forget[2], unpaired)
        + weights.unimodal * mse_loss(retain[:2], frozen[:2])
        + weights.multimodal * mse_loss(retain[2], frozen[2])
    )


def unpaired_embeddings(
    model: ImageTextModel, studies: StudyTensors, config: UnlearnConfig, rng: np.random.Generator
) -> Tensor:
    """Fused embeddings `[n, d]` of each image with the report of another study.

    Raises:
        CohortError: there is only one study.
    """
    if len(studies) < 2:
        raise CohortError("a single retained study cannot be unpaired", remedy="use another method")
    model.eval()
    device = next(model.parameters()).device
    micro = MicroBatches(model, config.micro_batch)
    parts = []
    # Along one cycle through all studies no image meets its own report.
    cycle = rng.permutation(len(studies)).astype(np.int64)
    other = np.empty_like(cycle)
    other[cycle] = np.roll(cycle, 1)

    for batch in studies.in_order(config.batch, device):
        report = torch.from_numpy(other[batch.rows])
        tokens = studies.tokens[report].to(device)
        mask = studies.mask[report].to(device)
        parts.append(micro.outputs(Batch(batch.images, tokens, mask, batch.labels, batch.rows)).embeddings[2])

    return torch.cat(parts)
