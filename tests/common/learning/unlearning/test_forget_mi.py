from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import ConfigError
from common.learning.config import UnlearnConfig
from common.learning.data.tensors import StudyTensors
from common.learning.model.card import ModelCard
from common.learning.unlearning.base import distance
from common.learning.unlearning.calibration import true_margin
from common.learning.unlearning.forget_mi import WEIGHTINGS, forget_mi_terms, frozen_outputs, noisy_copy
from common.learning.unlearning.methods import method_named

CohortOf = Callable[..., Any]
TensorsOf = Callable[..., Any]


@pytest.fixture
def make_studies(cohort_of: CohortOf, tensors_of: TensorsOf) -> Callable[..., StudyTensors]:
    return lambda patients, studies=1, seed=0: tensors_of(
        cohort_of(patients, name=f"p{seed}", studies=studies, seed=seed)
    )


def embeddings(*values: tuple[float, float]) -> torch.Tensor:
    """`[3, 1, 2]`: image, text, fused of one study."""
    return torch.tensor(values).reshape(3, 1, 2)


def test_the_four_terms_by_hand() -> None:
    forget = embeddings((3, 0), (0, 4), (1, 1))
    frozen = embeddings((0, 0), (0, 0), (1, 3))
    retain = embeddings((1, 0), (0, 0), (0, 0))
    kept = embeddings((0, 0), (0, 0), (0, 0.5))
    terms = forget_mi_terms(forget, frozen, retain, kept, torch.ones(3, 1))
    # Unimodal: the length of the concatenation (3, 0, 0, 4) is 5; multimodal: of (0, -2) is 2.
    assert terms.uu.item() == pytest.approx(5.0)
    assert terms.mu.item() == pytest.approx(2.0)
    assert terms.ur.item() == pytest.approx(1.0)
    assert terms.mr.item() == pytest.approx(0.5)
    assert terms.loss(WEIGHTINGS["equal"]).item() == pytest.approx(0.25 * (-5 - 2 + 1 + 0.5))
    assert terms.loss(WEIGHTINGS["retention"]).item() == pytest.approx(-0.5 - 0.2 + 0.4 + 0.2)


def test_a_branch_that_a_study_is_not_forgotten_on_is_not_pushed() -> None:
    forget = embeddings((3.0, 0), (0, 4), (1, 1)).requires_grad_()
    frozen = embeddings((0, 0), (0, 0), (1, 3))
    images = torch.tensor([[1.0], [0.0], [1.0]])
    terms = forget_mi_terms(forget, frozen, frozen, frozen, images)
    # Of the concatenation (3, 0, 0, 4) only the image's half counts.
    assert terms.uu.item() == pytest.approx(3.0)
    assert terms.mu.item() == pytest.approx(2.0)
    torch.autograd.backward((terms.uu + terms.mu).sum())
    assert forget.grad is not None
    assert forget.grad[1].abs().sum() == 0
    assert forget.grad[0].abs().sum() > 0


@pytest.mark.parametrize("name", list(WEIGHTINGS))
def test_weightings_sum_to_one(name: str) -> None:
    w = WEIGHTINGS[name]
    assert w.uu + w.ur + w.mu + w.mr == pytest.approx(1.0)


def test_the_gradient_at_distance_zero_is_zero_and_not_nan() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    torch.autograd.backward(distance(x, torch.zeros(2, 3)).sum())
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros(2, 3))


def test_each_term_reaches_what_it_should_and_never_the_teacher(
    card: ModelCard, make_studies: Callable[..., StudyTensors]
) -> None:
    student = card.build(1)
    teacher = card.build(2)
    batch = next(make_studies(4).in_order(4, torch.device("cpu")))
    frozen = frozen_outputs(teacher, make_studies(4), UnlearnConfig()).embeddings
    student.eval()
    found = student(batch.images, batch.tokens, batch.mask).embeddings
    terms = forget_mi_terms(found, frozen, found, frozen, torch.ones(3, len(batch)))
    reached = {}

    for name in ("uu", "mu", "ur", "mr"):
        student.zero_grad()
        getattr(terms, name).mean().backward(retain_graph=True)
        reached[name] = {
            n.split(".")[0] for n, p in student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
        }

    assert reached["uu"] == reached["ur"] == {"image_encoder", "text_encoder"}
    assert reached["mu"] == reached["mr"] == {"image_encoder", "text_encoder", "fusion"}
    assert all(p.grad is None for p in teacher.parameters())


def test_noise_switched_off_is_exactly_off_and_each_mode_touches_its_own(
    make_studies: Callable[..., StudyTensors],
) -> None:
    studies = make_studies(4)
    batch = next(studies.in_order(4, torch.device("cpu")))
    modes = {
        mode: noisy_copy(batch, studies, UnlearnConfig(noise=mode), 1) for mode in ("none", "image", "text", "both")
    }
    assert modes["none"].images is batch.images
    assert modes["none"].tokens is batch.tokens
    assert modes["image"].tokens is batch.tokens
    assert not torch.equal(modes["image"].images, batch.images)
    assert modes["text"].images is batch.images
    assert not torch.equal(modes["text"].tokens, batch.tokens)
    assert torch.equal(modes["both"].images, modes["image"].images)


def test_margin_is_the_logit_against_logsumexp_of_the_others() -> None:
    logits = torch.tensor([[[2.0, 0.0, 0.0]]]).expand(3, -1, -1)
    assert true_margin(logits, torch.tensor([0]))[0, 0].item() == pytest.approx(2.0 - np.log(2.0))
    assert true_margin(logits, torch.tensor([1]))[0, 0].item() == pytest.approx(-np.log(np.e**2 + 1))


def test_an_unknown_method_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="forget_mi_calibrated"):
        method_named("os.system")
