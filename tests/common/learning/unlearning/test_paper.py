from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch

from common.learning.config import UnlearnConfig
from common.learning.data.tensors import StudyTensors
from common.learning.micro_batches import forward
from common.learning.model.checkpoint import ModelCard, state_digest
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Cohort
from common.learning.unlearning.base import Pass, UnlearnSets, distance
from common.learning.unlearning.forget_mi import (
    WEIGHTINGS,
    Terms,
    endless,
    forget_mi_terms,
    frozen_outputs,
    noisy_copy,
    paper,
)

CPU = torch.device("cpu")


@pytest.fixture
def sets(cohort_of: Callable[..., Cohort], tensors_of: Callable[[Cohort], StudyTensors]) -> UnlearnSets:
    return UnlearnSets(
        forget=tensors_of(cohort_of(4, name="f", seed=1)),
        retain=tensors_of(cohort_of(5, name="r", seed=2)),
        calibration=tensors_of(cohort_of(6, name="c", seed=3)),
    )


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("equal", 0.25 * (1 - 10 + 2 - 5)),
        ("unimodal", 0.4 * (1 - 10) + 0.1 * (2 - 5)),
        ("multimodal", 0.1 * (1 - 10) + 0.4 * (2 - 5)),
        ("retention", -0.1 * 10 + 0.4 * 1 - 0.1 * 5 + 0.4 * 2),
    ],
)
def test_the_loss_rewards_mean_distance_on_forget_and_punishes_it_on_retain(name: str, loss: float) -> None:
    terms = Terms(
        uu=torch.tensor([8.0, 12.0]), mu=torch.tensor([4.0, 6.0]), ur=torch.tensor([1.0]), mr=torch.tensor([1.0, 3.0])
    )
    assert float(terms.loss(WEIGHTINGS[name])) == pytest.approx(loss)


def test_a_distance_is_per_study_and_batches_may_differ_in_size() -> None:
    two = torch.tensor([[[0.0, 0.0], [3.0, 0.0]], [[0.0, 0.0], [0.0, 4.0]], [[0.0, 0.0], [1.0, 0.0]]])
    terms = forget_mi_terms(two, torch.zeros(3, 2, 2), torch.ones(3, 1, 2), torch.ones(3, 1, 2), torch.ones(3, 2))
    assert terms.uu.tolist() == pytest.approx([0.0, 5.0], abs=1e-5)
    assert terms.mu.tolist() == pytest.approx([0.0, 1.0], abs=1e-5)
    assert terms.ur.shape == terms.mr.shape == (1,)


def test_noise_repeats_with_its_seed(sets: UnlearnSets) -> None:
    batch = next(sets.forget.in_order(99, CPU))
    config = UnlearnConfig(noise="both")
    first, again, other = (noisy_copy(batch, sets.forget, config, seed) for seed in (3, 3, 4))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.tokens, again.tokens)
    assert not torch.equal(first.images, other.images)
    assert not torch.equal(first.tokens, other.tokens)


def test_frozen_outputs_without_noise_are_the_models_own(card: ModelCard, sets: UnlearnSets) -> None:
    model = card.build(1)
    own = forward(model.eval(), next(sets.forget.in_order(99, CPU))).logits.detach()
    off = frozen_outputs(model.train(), sets.forget, UnlearnConfig(noise="none"), noise_seed=1)
    assert torch.equal(off.logits, own)
    on = frozen_outputs(model, sets.forget, UnlearnConfig(noise="both"), noise_seed=1)
    assert not torch.allclose(on.logits, own)
    assert not on.embeddings.requires_grad


def test_retain_batches_walk_the_whole_set_before_any_study_comes_again(sets: UnlearnSets) -> None:
    batches = endless(sets.retain, 4, CPU, np.random.default_rng(0))
    first, second = (np.concatenate([next(batches).rows for _ in range(3)]) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(len(sets.retain)))
    assert list(first) != list(second)


def drift(model: ImageTextModel, before: ImageTextModel, studies: StudyTensors) -> float:
    config = UnlearnConfig(noise="none")
    left = frozen_outputs(model, studies, config)
    right = frozen_outputs(before, studies, config)
    return sum(float(distance(a, b).mean()) for a, b in zip(left.embeddings, right.embeddings, strict=True))


def test_forget_pairs_are_pushed_away_and_retained_ones_held(card: ModelCard, sets: UnlearnSets) -> None:
    model = card.build(1)
    before = copy.deepcopy(model)
    heard: list[tuple[int, Pass]] = []
    config = UnlearnConfig(passes=6, batch=4, retain_batch=4, lr=3e-3, weighting="retention")
    done = paper(model, sets, config, ranking_weight=0.1, seed=0, on_pass=lambda n, p: heard.append((n, p)))
    assert drift(model, before, sets.forget) > 1.5 * drift(model, before, sets.retain) > 0
    assert [number for number, _ in heard] == [1, 2, 3, 4, 5, 6]
    assert tuple(record for _, record in heard) == done.passes


def test_the_cost_is_one_frozen_forward_a_study_and_three_units_a_trained_one(
    card: ModelCard, sets: UnlearnSets
) -> None:
    done = paper(card.build(1), sets, UnlearnConfig(passes=2, batch=8, retain_batch=5), ranking_weight=0.1, seed=0)
    assert done.cost == (8 + 10) + 2 * 3 * (8 + 5)


def test_the_same_seed_gives_the_same_weights_bit_for_bit(card: ModelCard, sets: UnlearnSets) -> None:
    digests = []
    for seed in (5, 5, 6):
        model = card.build(1)
        paper(model, sets, UnlearnConfig(passes=2, batch=4), ranking_weight=0.1, seed=seed)
        digests.append(state_digest(model.state_dict()))

    assert digests[0] == digests[1] != digests[2]
