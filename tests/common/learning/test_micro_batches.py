"""A step in pieces is the step on the whole batch, and a memory that is too small makes the pieces smaller."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.errors import UnavailableError
from common.learning.config import TrainConfig, UnlearnConfig
from common.learning.data.tensors import Batch, StudyTensors
from common.learning.micro_batches import MicroBatches, forward
from common.learning.model.checkpoint import ModelCard
from common.learning.model.image_text import ImageTextModel, Outputs
from common.learning.model.loss import task_loss
from common.learning.training import fit, score
from common.learning.unlearning.base import UnlearnSets
from common.learning.unlearning.methods import method_named

CPU = torch.device("cpu")
NO_CLIP = 1e9
ROUNDING = 1e-5
"""Largest difference of two gradients, relative to the norm of one: float32, sums in another order."""


@pytest.fixture
def studies(cohort_of: Callable[..., Any], tensors_of: Callable[..., StudyTensors]) -> StudyTensors:
    return tensors_of(cohort_of(4, studies=2))


@pytest.fixture
def model(card: ModelCard) -> ImageTextModel:
    """In eval mode: dropout draws other numbers for a piece than for a whole batch."""
    return card.build(1).eval()


def batch_of(studies: StudyTensors) -> Batch:
    return studies.batch(np.arange(len(studies), dtype=np.int64), CPU)


def loss_of(labels: Tensor, weight: float = 5.0) -> Callable[[Sequence[Outputs]], Tensor]:
    """The ranking loss, which couples the studies, weighs enough here to be seen."""
    return lambda outputs: task_loss(outputs[0], labels, weight)


def gradient(model: ImageTextModel) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def stepped(model: ImageTextModel, batch: Batch, size: int) -> tuple[Tensor, MicroBatches, float]:
    """The gradient of one step, and what the step said its cost was; the model keeps its weights."""
    micro = MicroBatches(model, size)
    done = micro.step(torch.optim.SGD(model.parameters(), lr=0.0), [batch], loss_of(batch.labels), NO_CLIP)
    return gradient(model), micro, done.cost


def differ(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_gradient_in_pieces_is_that_of_the_whole_batch(
    model: ImageTextModel, studies: StudyTensors, size: int
) -> None:
    batch = batch_of(studies)
    whole, _, cost = stepped(model, batch, 0)
    pieces, _, more = stepped(model, batch, size)
    assert differ(pieces, whole) < ROUNDING
    assert (cost, more) == (3.0 * len(batch), 4.0 * len(batch))
    # What adding up the losses of pieces would give: the ranking loss knows other pairs.
    model.zero_grad()
    for rows in np.array_split(np.arange(len(batch)), 3):
        part = studies.batch(rows.astype(np.int64), CPU)
        torch.autograd.backward(loss_of(part.labels)([forward(model, part)]) * len(rows) / len(batch))

    assert differ(gradient(model), whole) > 100 * ROUNDING


def test_a_batch_that_fits_is_not_cut(model: ImageTextModel, studies: StudyTensors) -> None:
    batch = batch_of(studies)
    assert torch.equal(stepped(model, batch, len(batch))[0], stepped(model, batch, 0)[0])


def test_dropout_drops_the_same_in_both_forwards_of_a_piece(model: ImageTextModel, studies: StudyTensors) -> None:
    model.train()
    batch = batch_of(studies)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        pieces, _, _ = stepped(model, batch, 3)
        after = torch.get_rng_state()
        torch.manual_seed(3)
        model.zero_grad()
        parts = [forward(model, studies.batch(np.arange(a, min(a + 3, 8)), CPU)) for a in (0, 3, 6)]
        assert torch.equal(after, torch.get_rng_state())
        one = Outputs(torch.cat([p.embeddings for p in parts], dim=1), torch.cat([p.logits for p in parts], dim=1))
        torch.autograd.backward(loss_of(batch.labels)([one]))
        assert differ(pieces, gradient(model)) < ROUNDING


def too_small(model: ImageTextModel, most: int, where: str) -> None:
    """The memory does not suffice for more than `most` studies."""

    def refuse(_: object, arguments: tuple[Tensor, ...], *__: object) -> None:
        if len(arguments[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    if where == "forward":
        model.register_forward_pre_hook(refuse)
    else:
        project = model.image_encoder.project
        assert isinstance(project, torch.nn.Module)
        project.register_full_backward_pre_hook(refuse)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_memory_that_is_too_small_halves_the_pieces_until_they_fit(
    model: ImageTextModel, studies: StudyTensors, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    batch = batch_of(studies)
    whole, _, _ = stepped(model, batch, 0)
    too_small(model, 3, where)
    with caplog.at_level(logging.WARNING, logger="fedforget.training"):
        pieces, micro, _ = stepped(model, batch, 0)
        micro.step(torch.optim.SGD(model.parameters(), lr=0.0), [batch], loss_of(batch.labels), NO_CLIP)

    assert differ(pieces, whole) < ROUNDING
    assert micro.size == 2
    assert [r.getMessage() for r in caplog.records] == [
        "out of memory with 8 studies at once, going on with 4",
        "out of memory with 4 studies at once, going on with 2",
    ]


def test_a_memory_that_holds_no_study_is_said_so(model: ImageTextModel, studies: StudyTensors) -> None:
    too_small(model, 0, "forward")
    with pytest.raises(UnavailableError, match=r"not enough memory for one study: lower data\.image_size"):
        stepped(model, batch_of(studies), 0)


def test_scores_are_the_same_in_a_small_memory(model: ImageTextModel, studies: StudyTensors) -> None:
    whole = score(model, studies)
    too_small(model, 3, "forward")
    np.testing.assert_allclose(score(model, studies).logits, whole.logits, atol=1e-5)


def moved(before: ImageTextModel, after: ImageTextModel) -> Tensor:
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return torch.cat([(b - a).detach().flatten() for a, b in pairs])


def test_training_in_pieces_leads_where_training_on_whole_batches_does(card: ModelCard, studies: StudyTensors) -> None:
    plain = card.model_copy(update={"model": card.model.model_copy(update={"dropout": 0.0})}).build(1)
    ends = []

    for micro in (0, 3):
        trained = copy.deepcopy(plain)
        config = TrainConfig(batch=8, micro_batch=micro)
        told = fit(trained, studies, config, ranking_weight=0.5, epochs=2, seed=0)
        ends.append((moved(plain, trained), told))

    # AdamW divides by the gradient's own size, so rounding is not small where a gradient is nearly zero.
    assert differ(ends[1][0], ends[0][0]) < 0.02
    assert ends[1][1].loss == pytest.approx(ends[0][1].loss, rel=1e-4)


@pytest.mark.parametrize("method", ["forget_mi_paper", "forget_mi_calibrated"])
def test_unlearning_in_pieces_leads_where_unlearning_whole_does(
    method: str,
    card: ModelCard,
    cohort_of: Callable[..., Any],
    tensors_of: Callable[..., StudyTensors],
) -> None:
    sets = UnlearnSets(
        forget=tensors_of(cohort_of(3, name="f", seed=1)),
        retain=tensors_of(cohort_of(3, name="r", seed=2)),
        calibration=tensors_of(cohort_of(4, name="c", seed=3)),
    )
    start = card.build(1)
    ends = []

    for micro in (0, 2):
        model = copy.deepcopy(start)
        config = UnlearnConfig(passes=2, batch=4, retain_batch=4, push=0.5, micro_batch=micro)
        done = method_named(method)(model, sets, config, ranking_weight=0.5, seed=0, on_pass=lambda *_: None)
        ends.append((moved(start, model), done))

    assert differ(ends[1][0], ends[0][0]) < 0.02
    for one, other in zip(ends[0][1].passes, ends[1][1].passes, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-3)
        assert one.gap == pytest.approx(other.gap, abs=1e-3)
