"""What every method must do, by its name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.errors import CohortError
from common.learning.config import ModelConfig, UnlearnConfig
from common.learning.data.tensors import Batch, StudyTensors
from common.learning.model.checkpoint import ModelCard, state_digest
from common.learning.model.frozen import frozen_names
from common.learning.model.image_text import ImageTextModel
from common.learning.unlearning.base import Pass, Unlearned, UnlearnSets
from common.learning.unlearning.methods import METHODS

CONFIG = UnlearnConfig(passes=2, batch=6, retain_batch=4, lr=1e-3, tolerance=0.0, noise="none")
NAMES = sorted(METHODS)
F = 12
R = 16
C = 16
"""Studies of the three sets; 4 steps of retain batches, 2 of forget batches."""
BESIDE = 2 * 4 * (4 + 6) * 3
COSTS = {
    "cf_k": 2 * R * 3,
    "eu_k": 2 * R * 3,
    "fed_quit": F + 2 * F * 3,
    "fine_tune": 2 * R * 3,
    "multi_delete": 2 * R + BESIDE,
    "neg_grad_plus": BESIDE,
    "pga": 2 * F * 3,
    "salun": F * 3 + BESIDE,
    "scrub": F + R + 2 * (F + R) * 3 + 2 * F + C,
    "ssd": (F + R) * 3,
}
FORGET_MI = {"forget_mi_calibrated", "forget_mi_paper"}
"""Their costs have tests of their own."""
WALK_RETAIN = {"cf_k", "eu_k", "fine_tune", "multi_delete", "neg_grad_plus", "salun", "scrub"}


def run(
    name: str, model: ImageTextModel, sets: UnlearnSets, config: UnlearnConfig = CONFIG, seed: int = 3
) -> Unlearned:
    told: list[tuple[int, Pass]] = []
    done = METHODS[name](
        model, sets, config, ranking_weight=0.1, seed=seed, on_pass=lambda n, record: told.append((n, record))
    )
    assert told == list(enumerate(done.passes, start=1))
    return done


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator_alone(
    name: str, card: ModelCard, real_sets: UnlearnSets
) -> None:
    digests = []
    for other in (11, 12):
        torch.manual_seed(other)
        before = torch.get_rng_state()
        model = card.build(1)
        run(name, model, real_sets)
        assert torch.equal(torch.get_rng_state(), before)
        digests.append(state_digest(model.state_dict()))

    assert digests[0] == digests[1] != state_digest(card.build(1).state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_frozen_layers_stay_and_nothing_else_is_left_frozen(name: str, card: ModelCard, real_sets: UnlearnSets) -> None:
    config = ModelConfig(**{**card.model.model_dump(), "frozen_text_layers": 1})
    model = card.model_copy(update={"model": config}).build(1)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    wanted = {n: p.requires_grad for n, p in model.named_parameters()}
    run(name, model, real_sets)
    after = model.state_dict()
    assert all(torch.equal(after[n], before[n]) for n in frozen_names(after, config))
    assert {n: p.requires_grad for n, p in model.named_parameters()} == wanted
    assert all(torch.isfinite(t).all() for t in after.values())


def test_the_cost_of_every_method_is_tested() -> None:
    assert COSTS.keys() | FORGET_MI == METHODS.keys(), "add the new method's cost to COSTS in this file"


@pytest.mark.parametrize("name", sorted(COSTS))
def test_every_forward_and_backward_is_in_the_cost(name: str, card: ModelCard, real_sets: UnlearnSets) -> None:
    assert run(name, card.build(1), real_sets).cost == COSTS[name]


@pytest.mark.parametrize("name", sorted(WALK_RETAIN))
def test_a_pass_walks_the_whole_retain_set(
    name: str, card: ModelCard, real_sets: UnlearnSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    batch = StudyTensors.batch

    def spy(self: StudyTensors, rows: NDArray[np.int64], device: torch.device) -> Batch:
        if self is real_sets.retain and torch.is_grad_enabled():
            seen.extend(rows.tolist())
        return batch(self, rows, device)

    monkeypatch.setattr(StudyTensors, "batch", spy)
    run(name, card.build(1), real_sets, CONFIG.model_copy(update={"passes": 1, "retain_batch": 5}))
    assert sorted(seen[-R:]) == list(range(R))


@pytest.mark.parametrize("name", sorted({*COSTS} - {"ssd"}))
def test_steps_are_taken_with_dropout_and_all_else_is_looked_at_without(
    name: str, card: ModelCard, real_sets: UnlearnSets
) -> None:
    model = card.build(1)
    modes = []
    model.register_forward_pre_hook(lambda module, _: modes.append((torch.is_grad_enabled(), module.training)))
    run(name, model, real_sets)
    learnt = [training for graph, training in modes if graph]
    if name == "salun":  # the gradient that chooses the weights, of two batches
        assert learnt[:2] == [False, False]
        learnt = learnt[2:]

    assert all(learnt)
    assert not any(training for graph, training in modes if not graph)


@pytest.mark.parametrize("name", sorted({*METHODS} - {"fed_quit", "pga"}))
def test_nobody_left_to_retain_is_an_error(name: str, card: ModelCard, real_sets: UnlearnSets) -> None:
    real_sets.retain._withdrawn = lambda: frozenset(s.patient for s in real_sets.retain.studies)
    with pytest.raises(CohortError, match="nobody is left"):
        run(name, card.build(1), real_sets)
