from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from common.config import TrainConfig, UnlearnConfig
from common.data.tensors import StudyTensors
from common.errors import ConfigError
from common.evaluation.matching import majority_labels, patient_means
from common.evaluation.scores import Scores
from common.training import fit, score
from common.unlearning.base import UnlearnSets, distance, nothing
from common.unlearning.calibrated_forget_mi import _whole_patients, calibrated
from common.unlearning.calibration import margin_targets, true_margin, weighted_quantile
from common.unlearning.forget_mi import WEIGHTINGS, forget_mi_terms, frozen_outputs, noisy_copy, paper
from common.unlearning.methods import method_named


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
    forget, frozen = embeddings((3, 0), (0, 4), (1, 1)), embeddings((0, 0), (0, 0), (1, 3))
    retain, kept = embeddings((1, 0), (0, 0), (0, 0)), embeddings((0, 0), (0, 0), (0, 0.5))
    terms = forget_mi_terms(forget, frozen, retain, kept)
    # Unimodal: the length of the concatenation (3, 0, 0, 4) is 5; multimodal: of (0, -2) is 2.
    assert terms.uu.item() == pytest.approx(5.0)
    assert terms.mu.item() == pytest.approx(2.0)
    assert terms.ur.item() == pytest.approx(1.0)
    assert terms.mr.item() == pytest.approx(0.5)
    assert terms.loss(WEIGHTINGS["equal"]).item() == pytest.approx(0.25 * (-5 - 2 + 1 + 0.5))
    assert terms.loss(WEIGHTINGS["retention"]).item() == pytest.approx(-0.5 - 0.2 + 0.4 + 0.2)


@pytest.mark.parametrize("name", list(WEIGHTINGS))
def test_weightings_sum_to_one(name: str) -> None:
    w = WEIGHTINGS[name]
    assert w.uu + w.ur + w.mu + w.mr == pytest.approx(1.0)


def test_the_gradient_at_distance_zero_is_zero_and_not_nan() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    distance(x, torch.zeros(2, 3)).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros(2, 3))


def test_each_term_reaches_what_it_should_and_never_the_teacher(card, make_studies) -> None:  # type: ignore[no-untyped-def]
    student, teacher = card.build(1), card.build(2)
    batch = next(make_studies(4).in_order(4, torch.device("cpu")))
    frozen = frozen_outputs(teacher, make_studies(4), UnlearnConfig()).embeddings
    student.eval()
    found = student(batch.images, batch.tokens, batch.mask).embeddings
    terms = forget_mi_terms(found, frozen, found, frozen)
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


def test_noise_switched_off_is_exactly_off_and_each_mode_touches_its_own(make_studies) -> None:  # type: ignore[no-untyped-def]
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


def test_weighted_quantiles_lie_at_the_middle_of_each_step() -> None:
    values, even = np.array([3.0, 1.0, 2.0]), np.ones(3)
    assert weighted_quantile(values, even, np.array([1 / 6, 0.5, 5 / 6])) == pytest.approx([1, 2, 3])
    heavy = weighted_quantile(values, np.array([2.0, 1.0, 1.0]), np.array([0.75]))
    assert heavy == pytest.approx([3.0])


def test_targets_are_calibration_quantiles_in_the_order_of_the_ranking() -> None:
    logits = np.zeros((3, 4, 2))
    logits[:, :, 0] = [1.0, 2.0, 3.0, 4.0]
    calibration = Scores(logits, np.zeros(4, dtype=np.int64), np.arange(4))
    ranking = np.tile([5.0, -1.0, 0.0, 9.0], (3, 1))
    targets = margin_targets(ranking, np.zeros(4, dtype=np.int64), calibration)
    assert targets[2] == pytest.approx([3.0, 1.0, 2.0, 4.0])


def test_steps_take_whole_patients() -> None:
    owners = np.array([0, 0, 1, 2, 2, 2, 3])
    groups = _whole_patients(owners, 3, np.random.default_rng(0))
    assert sorted(p for g in groups for p in g) == [0, 1, 2, 3]
    assert len(groups) > 1


@pytest.fixture
def remembered(card, make_studies):  # type: ignore[no-untyped-def]
    """A model that learned two groups by heart, and a third it never saw."""
    forget, retain, calibration = make_studies(8, 2, seed=1), make_studies(8, 2, seed=2), make_studies(12, 1, seed=3)
    model = card.build(0)
    config = TrainConfig(lr=5e-3, batch=8)
    for seed, part in enumerate((forget, retain) * 2):
        fit(model, part, config, ranking_weight=0.0, epochs=8, seed=seed)
    return model, UnlearnSets(forget, retain, calibration)


def test_calibrated_leads_margins_to_the_never_seen_level_and_not_past_it(remembered) -> None:  # type: ignore[no-untyped-def]
    model, sets = remembered
    before = patient_means(score(model, sets.forget).margin, sets.forget.patients)
    config = UnlearnConfig(passes=80, lr=2e-3, tolerance=0.15, renew=1, weighting="retention")
    done = calibrated(model, sets, config, ranking_weight=0.0, seed=0, on_pass=nothing)
    after = patient_means(score(model, sets.forget).margin, sets.forget.patients)
    level = patient_means(score(model, sets.calibration).margin, sets.calibration.patients)
    assert before.mean() > level.mean() + 1.0
    assert abs(np.median(after[2]) - np.median(level[2])) < 1.0
    assert after[2].min() > level[2].min() - 1.0
    assert done.passes[-1].gap is not None
    assert max(done.passes[-1].gap) < max(done.passes[0].gap or (0,)) / 3
    assert majority_labels(score(model, sets.forget)).tolist() == [0, 1] * 4


def test_calibrated_gives_the_same_bits_for_the_same_seed(remembered) -> None:  # type: ignore[no-untyped-def]
    model, sets = remembered
    twins = [copy.deepcopy(model) for _ in range(2)]
    config = UnlearnConfig(passes=3)
    costs = [calibrated(t, sets, config, ranking_weight=0.1, seed=4, on_pass=nothing).cost for t in twins]
    left, right = (t.state_dict() for t in twins)
    assert all(torch.equal(left[n], right[n]) for n in left)
    assert costs[0] == costs[1]


def test_paper_pushes_away_without_end(remembered) -> None:  # type: ignore[no-untyped-def]
    model, sets = remembered
    config = UnlearnConfig(method="forget_mi_paper", passes=10, lr=1e-3, noise="none")
    done = paper(model, sets, config, ranking_weight=0.0, seed=0, on_pass=nothing)
    assert len(done.passes) == 10
    assert done.passes[-1].loss < done.passes[0].loss


def test_an_unknown_method_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="forget_mi_calibrated"):
        method_named("os.system")
