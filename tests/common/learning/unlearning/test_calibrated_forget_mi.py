from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.learning.config import TrainConfig, UnlearnConfig
from common.learning.data.tensors import StudyTensors
from common.learning.device import derive_seed
from common.learning.evaluation.matching import majority_labels, patient_means
from common.learning.evaluation.scores import Scores
from common.learning.folds.margins import Standings
from common.learning.model.checkpoint import ModelCard, state_digest
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Cohort
from common.learning.training import fit, score
from common.learning.unlearning.base import UnlearnSets
from common.learning.unlearning.calibrated_forget_mi import _Loss, _whole_patients, calibrated
from common.learning.unlearning.calibration import margin_targets
from common.learning.unlearning.forget_mi import frozen_outputs

SEED = 4
CONFIG = UnlearnConfig(
    retain_batch=8, task_weight=0.3, passes=40, batch=6, lr=3e-3, renew=1, tolerance=0.4, noise="none"
)


@pytest.fixture
def sets(cohort_of: Callable[..., Cohort], tensors_of: Callable[[Cohort], StudyTensors]) -> UnlearnSets:
    return UnlearnSets(
        forget=tensors_of(cohort_of(6, name="f", seed=1)),
        retain=tensors_of(cohort_of(8, name="r", seed=2)),
        calibration=tensors_of(cohort_of(8, name="c", seed=3)),
    )


def by_heart(card: ModelCard, sets: UnlearnSets, init: int) -> ImageTextModel:
    """A model that knows its twelve forget and sixteen retain studies by heart."""
    model = card.build(init)
    for _ in range(2):
        for studies in (sets.retain, sets.forget, sets.retain, sets.forget):
            fit(model, studies, TrainConfig(lr=5e-3, batch=8), ranking_weight=0.1, epochs=8, seed=0)

    return model


@pytest.fixture
def trained(card: ModelCard, sets: UnlearnSets) -> ImageTextModel:
    """The first of them."""
    return by_heart(card, sets, 1)


def margins(model: ImageTextModel, sets: UnlearnSets) -> NDArray[np.float64]:
    found = score(model, sets.forget)
    return patient_means(found.margin, found.patients)


def targets(model: ImageTextModel, before: ImageTextModel, sets: UnlearnSets) -> NDArray[np.float64]:
    noisy = frozen_outputs(copy.deepcopy(before), sets.forget, CONFIG, noise_seed=derive_seed(SEED, "noise"))
    frozen = Scores(noisy.logits.double().numpy(), sets.forget.labels.numpy(), sets.forget.patients)
    ranking = patient_means(frozen.margin, frozen.patients)
    return margin_targets(ranking, majority_labels(frozen), score(model, sets.calibration), 0.5)


@pytest.mark.parametrize("withdrawn", [True, False])
def test_a_report_whose_use_was_not_withdrawn_has_no_target(
    trained: ImageTextModel, sets: UnlearnSets, withdrawn: bool
) -> None:
    cpu = torch.device("cpu")
    config = CONFIG.model_copy(update={"push": 1.0})
    forget = sets.forget.batch(np.arange(4), cpu)
    retain = sets.retain.batch(np.arange(4), cpu)
    outputs = [trained(part.images, part.tokens, part.mask) for part in (forget, retain)]
    owed = torch.tensor([[1.0], [float(withdrawn)], [1.0]])

    def loss(text_target: float) -> float:
        step = _Loss(
            config,
            0.1,
            forget=forget,
            retain=retain,
            where=torch.from_numpy(sets.forget.patients[:4]),
            goals=torch.tensor([[0.0], [text_target], [0.0]]).repeat(1, 2),
            owed=owed.repeat(1, 2),
            branches=owed.repeat(1, 4),
            noisy=torch.zeros_like(outputs[0].embeddings),
            frozen=torch.zeros_like(outputs[1].embeddings),
        )
        return step(outputs).item()

    assert (loss(-50.0) == loss(50.0)) != withdrawn


@pytest.mark.parametrize("bounded", [True, False])
def test_a_patient_below_the_target_is_pushed_on_only_where_the_push_has_no_bound(
    trained: ImageTextModel, sets: UnlearnSets, bounded: bool
) -> None:
    cpu = torch.device("cpu")
    forget = sets.forget.batch(np.arange(4), cpu)
    retain = sets.retain.batch(np.arange(4), cpu)
    outputs = [trained(part.images, part.tokens, part.mask) for part in (forget, retain)]

    def loss(push: float) -> float:
        step = _Loss(
            CONFIG.model_copy(update={"push": push, "push_bounded": bounded}),
            0.1,
            forget=forget,
            retain=retain,
            where=torch.from_numpy(sets.forget.patients[:4]),
            goals=torch.full((3, 2), 50.0),
            owed=torch.ones(3, 2),
            branches=torch.ones(3, 4),
            noisy=torch.zeros_like(outputs[0].embeddings),
            frozen=torch.zeros_like(outputs[1].embeddings),
        )
        return step(outputs).item()

    assert (loss(1.0) < loss(0.0)) != bounded


def test_with_targets_on_the_fused_branch_alone_the_others_have_none(
    trained: ImageTextModel, sets: UnlearnSets
) -> None:
    alone = CONFIG.model_copy(update={"targets": "fused", "passes": 2})
    done = calibrated(copy.deepcopy(trained), sets, alone, ranking_weight=0.1, seed=SEED)
    each = calibrated(trained, sets, CONFIG.model_copy(update={"passes": 2}), ranking_weight=0.1, seed=SEED)

    for ours, theirs in zip(done.passes, each.passes, strict=False):
        assert ours.gap is not None
        assert theirs.gap is not None
        assert ours.gap[:2] == (0.0, 0.0)
        assert ours.gap[2] > 0
        assert min(theirs.gap) > 0


@pytest.mark.parametrize("init", [1, 2, 3, 4])
def test_forget_patients_end_at_the_never_seen_level_and_pass_it_by_no_more_than_a_step(
    card: ModelCard, sets: UnlearnSets, init: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.learning.unlearning.calibrated_forget_mi.drawn_level", lambda _: 0.5)
    model = by_heart(card, sets, init)
    before = copy.deepcopy(model)

    def above() -> NDArray[np.float64]:
        distance = margins(model, sets) - targets(model, before, sets)
        return np.asarray(distance.mean(axis=1), dtype=np.float64)

    way = [above()]
    assert way[0].min() > 0.5, "the model must remember, or there is nothing to forget"
    done = calibrated(model, sets, CONFIG, ranking_weight=0.1, seed=SEED, on_pass=lambda *_: way.append(above()))
    steps = np.abs(np.diff(way, axis=0)).max(axis=0)
    assert (np.min(way, axis=0) > -steps).all()
    assert np.abs(way[-1]).max() < CONFIG.tolerance
    kept = score(model, sets.retain)
    assert (kept.logits[2].argmax(axis=1) == kept.labels).mean() >= 0.9
    assert len(done.passes) == len(way) - 1


def test_patients_at_their_targets_end_the_run_at_once(trained: ImageTextModel, sets: UnlearnSets) -> None:
    done = calibrated(trained, sets, CONFIG.model_copy(update={"tolerance": 1e6}), ranking_weight=0.1, seed=SEED)
    assert len(done.passes) == 1
    # Frozen forwards, one look at the calibration patients, and three units a study of two steps.
    assert done.cost == (12 + 16) + 16 + 3 * (12 + 2 * 8)


@pytest.mark.parametrize("push", [0.0, 0.1])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(card: ModelCard, sets: UnlearnSets, push: float) -> None:
    digests: list[str] = []
    config = CONFIG.model_copy(update={"passes": 2, "noise": "both", "push": push, "tolerance": 0.0})

    for seed in (5, 5, 6):
        model = card.build(1)
        torch.manual_seed(seed + len(digests))
        calibrated(model, sets, config, ranking_weight=0.1, seed=seed)
        digests.append(state_digest(model.state_dict()))

    assert digests[0] == digests[1] != digests[2]


def test_no_set_but_the_three_and_no_study_is_changed(card: ModelCard, sets: UnlearnSets) -> None:
    before = [t.clone() for s in (sets.forget, sets.retain) for t in (s.tokens, s.mask, s.labels)]
    calibrated(
        card.build(1), sets, CONFIG.model_copy(update={"passes": 1, "noise": "both"}), ranking_weight=0.1, seed=0
    )
    after = [t for s in (sets.forget, sets.retain) for t in (s.tokens, s.mask, s.labels)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("studies", [1, 3, 4, 100])
def test_batches_take_whole_patients_each_once(studies: int) -> None:
    owners = np.array([0, 1, 1, 1, 1, 1, 2, 3, 3, 0, 4], dtype=np.int64)
    sizes = np.bincount(owners)

    for seed in range(20):
        groups = _whole_patients(owners, studies, np.random.default_rng(seed))
        assert sorted(np.concatenate(groups).tolist()) == [0, 1, 2, 3, 4]
        assert all(np.array_equal(g, np.sort(g)) for g in groups)
        # A group may run over by at most the patient that was begun.
        assert all(sizes[g].sum() < studies + sizes.max() for g in groups)
        assert len(groups) <= -(-len(owners) // studies)


def test_the_order_of_patients_is_drawn() -> None:
    owners = np.repeat(np.arange(6), 2).astype(np.int64)
    rng = np.random.default_rng(0)
    orders = {tuple(int(g[0]) for g in _whole_patients(owners, 2, rng)) for _ in range(5)}
    assert len(orders) == 5


def test_a_patient_who_revokes_alone_ends_where_a_model_puts_them_that_never_saw_them(
    trained: ImageTextModel,
    sets: UnlearnSets,
    cohort_of: Callable[..., Cohort],
    tensors_of: Callable[[Cohort], StudyTensors],
) -> None:
    alone = tensors_of(cohort_of(1, name="f", seed=1))
    ends = []
    for standing in (-1.0, 1.0):
        known = Standings(np.full((3, 1), np.nan), np.full((3, 1), standing))
        one = UnlearnSets(alone, sets.retain, sets.calibration, known)
        model = copy.deepcopy(trained)
        slow = CONFIG.model_copy(update={"lr": 5e-4, "passes": 30})
        done = calibrated(model, one, slow, ranking_weight=0.1, seed=SEED)
        first, last = done.passes[0].gap, done.passes[-1].gap
        assert first is not None
        assert last is not None
        assert sum(last) < sum(first)
        ends.append(margins(model, one)[2, 0])

    assert ends[0] < ends[1]
