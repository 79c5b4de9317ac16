from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from common.learning.config import TrainConfig
from common.learning.data.tensors import StudyTensors
from common.learning.evaluation.relearning import anamnesis, relearn, steps_to
from common.learning.model.checkpoint import ModelCard, state_digest
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Cohort
from common.learning.training import score

from ...conftest import Toy


def test_steps_are_counted_to_the_first_value_at_the_level() -> None:
    assert steps_to([0.9, 0.5, 0.2, 0.5], 0.5) == 1
    assert steps_to([0.4], 0.5) == 0
    assert steps_to([0.9, 0.8], 0.5) is None


def test_the_ratio_by_hand() -> None:
    # One step against three; both counted from one.
    assert anamnesis([0.9, 0.4], [0.9, 0.8, 0.7, 0.3], 0.5) == 2 / 4
    assert anamnesis([0.1], [0.9, 0.1], 0.5) == 1 / 2
    assert anamnesis([0.9], [0.9, 0.1], 0.5) is None


def test_the_steps_of_two_models_by_hand(
    toy: Callable[[float, float], Toy], toy_studies: Callable[[list[tuple[int, int, int]]], StudyTensors]
) -> None:
    # The gradient is clipped to the same small norm in every step, so a step of AdamW is the learning rate: .1 up.
    config = TrainConfig(lr=0.1, weight_decay=0.0, clip=1e-4)
    told: list[tuple[int, float]] = []

    def score_of(model: ImageTextModel) -> float:
        assert isinstance(model.a, Tensor)
        return -float(model.a.detach())

    def curve(a: float) -> tuple[float, ...]:
        return relearn(
            toy(a, 0.0), toy_studies([(1, 0, 0)]), config, score_of,
            steps=8, ranking_weight=0.0, seed=0, on_step=lambda n, v: told.append((n, v)),
        )  # fmt: skip

    hidden = curve(-0.25)
    never = curve(-0.65)
    assert hidden == pytest.approx([0.25 - 0.1 * k for k in range(9)], abs=1e-4)
    assert told == [*enumerate(hidden), *enumerate(never)]
    # At 0 or below after three steps and after seven.
    assert anamnesis(hidden, never, 0.0) == 4 / 8


def test_no_step_changes_nothing_and_the_same_seed_gives_the_same_curve(
    card: ModelCard, cohort_of: Callable[..., Cohort], tensors_of: Callable[[Cohort], StudyTensors]
) -> None:
    forget = tensors_of(cohort_of(4, name="f", seed=1))

    def run(steps: int, seed: int) -> tuple[tuple[float, ...], str]:
        model = card.build(1)
        torch.manual_seed(steps + seed)
        found = relearn(
            model, forget, TrainConfig(batch=3), lambda m: float(score(m, forget).loss.mean()),
            steps=steps, ranking_weight=0.1, seed=seed,
        )  # fmt: skip
        return found, state_digest(model.state_dict())

    assert run(0, 1)[1] == state_digest(card.build(1).state_dict())
    # 8 studies in batches of 3: five steps go into the second walk.
    assert run(5, 1) == run(5, 1) != run(5, 2)
    assert run(5, 1)[0][:3] == pytest.approx(run(2, 1)[0])
