"""The interface of unlearning methods: a function that changes a model in place and reports its cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from common.learning.config import UnlearnConfig
from common.learning.data.tensors import StudyTensors
from common.learning.folds.margins import Standings
from common.learning.model.image_text import ImageTextModel


@dataclass(frozen=True, slots=True)
class UnlearnSets:
    """The sets that a method may read. Audit and test sets are absent, so that nothing can be selected on them."""

    forget: StudyTensors
    retain: StudyTensors
    calibration: StudyTensors
    standings: Standings | None = None
    """Of the forget patients, in order of their numbers, by fold models; None without such models."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over the forget set: the mean loss, and per branch the mean distance of margins from their targets."""

    loss: float
    gap: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Unlearned:
    """The trace of a run and its cost in forward units, teacher and stop checks included."""

    passes: tuple[Pass, ...]
    cost: float


OnPass = Callable[[int, Pass], None]
"""Called after each pass with its number, from 1."""


class Unlearner(Protocol):
    """Change `model` in place so that it forgets `sets.forget`; the same seed gives the same weights on a CPU."""

    def __call__(
        self,
        model: ImageTextModel,
        sets: UnlearnSets,
        config: UnlearnConfig,
        *,
        ranking_weight: float,
        seed: int,
        on_pass: OnPass,
    ) -> Unlearned:
        """Run until `config.passes` or the method's own stop rule."""


def nothing(number: int, record: Pass) -> None:
    """An `OnPass` that does nothing."""


def distance(left: Tensor, right: Tensor) -> Tensor:
    """Euclidean distance per row, two `[batch, d]` to `[batch]`; the gradient at distance 0 is 0, not NaN."""
    return (left - right).square().sum(dim=1).clamp_min(1e-12).sqrt()
