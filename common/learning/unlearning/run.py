"""Shared parts of the methods: batches in random order, optimizer steps, their cost, and the trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from common.errors import CohortError
from common.learning.config import UnlearnConfig
from common.learning.data.tensors import Batch, StudyTensors
from common.learning.device import derive_seed
from common.learning.micro_batches import FORWARD, LossOf, MicroBatches
from common.learning.model.image_text import ImageTextModel
from common.learning.unlearning.base import OnPass, Pass, Unlearned, UnlearnSets
from common.learning.unlearning.forget_mi import endless


class Run:
    """One run of a method: it walks sets, takes steps, and ends passes.

    Args:
        model: changed in place, in its current mode.
        sets: see `UnlearnSets`.
        config: batch sizes, learning rate, number of passes.
        seed: determines the order of studies and dropout.
        on_pass: called after each pass.
        optimizer: by default AdamW over all weights that are not frozen.
    """

    def __init__(
        self,
        model: ImageTextModel,
        sets: UnlearnSets,
        config: UnlearnConfig,
        seed: int,
        on_pass: OnPass,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self.device = next(model.parameters()).device
        self.rng = np.random.default_rng(derive_seed(seed, "order"))
        self.cost = 0.0
        self._model = model
        self._sets = sets
        self._config = config
        self._seed = seed
        self._on_pass = on_pass
        self._optimizer = adamw(trainable(model), config) if optimizer is None else optimizer
        self._micro = MicroBatches(model, config.micro_batch)
        self._trace: list[Pass] = []
        self._loss = 0.0
        self._studies = 0

    @contextmanager
    def training(self) -> Iterator[None]:
        """Training mode, with dropout drawn from the seed; the global random state is restored afterwards."""
        # Dropout draws from torch's global state, which cannot be passed in. Restored afterwards, it leaves the
        # caller's later draws independent of how many steps were taken.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(derive_seed(self._seed, "dropout"))
            self._model.train()
            yield

    def passes(self) -> range:
        """Numbers of the passes, from 1."""
        return range(1, self._config.passes + 1)

    def forget(self) -> Iterator[Batch]:
        """All forget studies once."""
        return self._sets.forget.shuffled(self._config.batch, self.device, self.rng)

    def forget_again_and_again(self) -> Iterator[Batch]:
        """Endless forget batches, to pair with a walk of the longer retain set."""
        return endless(self._sets.forget, self._config.batch, self.device, self.rng)

    def retain(self) -> Iterator[Batch]:
        """All retain studies once.

        Raises:
            CohortError: all patients have withdrawn.
        """
        empty = True
        for batch in self._sets.retain.shuffled(self._config.retain_batch, self.device, self.rng):
            empty = False
            yield batch

        if empty:
            raise CohortError("nobody is left to retain")

    def step(self, batches: Sequence[Batch], loss_of: LossOf) -> None:
        """One optimizer step; in the pass's mean its loss is weighted by the studies of the first batch."""
        step = self._micro.step(self._optimizer, batches, loss_of, self._config.clip)
        self.cost += step.cost
        self._loss += step.loss * len(batches[0])
        self._studies += len(batches[0])

    def end_pass(self) -> None:
        """Record the pass and report it."""
        # No study was left if all forget patients withdrew during the pass.
        self._trace.append(Pass(self._loss / max(self._studies, 1)))
        self._loss = 0.0
        self._studies = 0
        self._on_pass(len(self._trace), self._trace[-1])

    def charge(self, *sets: StudyTensors) -> None:
        """Add the cost of one forward pass of all these studies."""
        self.cost += FORWARD * sum(map(len, sets))

    def done(self) -> Unlearned:
        """The trace and the cost."""
        return Unlearned(tuple(self._trace), self.cost)


def adamw(parameters: Iterable[nn.Parameter], config: UnlearnConfig) -> torch.optim.AdamW:
    """The kind of optimizer that trained the models."""
    return torch.optim.AdamW(list(parameters), lr=config.lr, weight_decay=config.weight_decay)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Weights that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
