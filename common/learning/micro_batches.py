"""Steps on whole batches, in pieces that fit into memory.

A loss that couples studies is not a sum over pieces: the ranking loss pairs every image with every report, and the
calibrated method averages over a patient's studies. A step in pieces therefore follows Gao et al. 2021 (arXiv
2101.06983): forward all pieces without a graph, compute the loss and its gradient at the outputs of the whole batch,
then forward each piece again with the same random numbers and backpropagate its rows of that gradient. Up to rounding,
this is the gradient of the whole batch for any loss of the outputs, provided that the model treats each study
independently. BatchNorm in training does not: it takes its statistics from a piece.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from common.errors import UnavailableError
from common.learning.data.tensors import Batch
from common.learning.device import autocast
from common.learning.model.image_text import ImageTextModel, Outputs

log = logging.getLogger("fedforget.training")

FORWARD = 1.0
BACKWARD = 2.0
"""Cost units of one study."""

T = TypeVar("T")
LossOf = Callable[[Sequence[Outputs]], Tensor]
"""A scalar of the outputs of a step's batches, in their order."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its loss, the outputs of each of its batches without a graph, and its cost."""

    loss: float
    outputs: tuple[Outputs, ...]
    cost: float


def forward(model: ImageTextModel, batch: Batch) -> Outputs:
    """One forward pass; outputs are float32 whatever precision the device computes in."""
    with autocast(batch.images.device):
        outputs = model(batch.images, batch.tokens, batch.mask)
    return Outputs(outputs.embeddings.float(), outputs.logits.float())


class MicroBatches:
    """Forward passes and steps of `model` with at most `size` studies at once; 0 means no limit.

    If memory runs out, `size` is halved, for all later steps too, and the step starts again. All methods raise an
    `UnavailableError` if memory does not suffice for one study.
    """

    def __init__(self, model: ImageTextModel, size: int = 0) -> None:
        self._model = model
        self.size = size

    def outputs(self, batch: Batch) -> Outputs:
        """One forward pass without a graph."""
        with torch.no_grad():
            return self._retried(
                len(batch), lambda: _joined([forward(self._model, piece) for piece in self._pieces(batch)])
            )

    def step(self, optimizer: torch.optim.Optimizer, batches: Sequence[Batch], loss_of: LossOf, clip: float) -> Step:
        """One optimizer step on `loss_of` the outputs of `batches`; `clip` bounds the norm of the gradient."""
        step = self._retried(sum(map(len, batches)), lambda: self._gradients(batches, loss_of))
        # Outside of the retry: weights must change once only, whatever had to be computed again.
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
        optimizer.step()

        return step

    def _gradients(self, batches: Sequence[Batch], loss_of: LossOf) -> Step:
        studies = sum(map(len, batches))
        if self.size and studies > self.size:
            return self._in_pieces(batches, loss_of)
        outputs = [forward(self._model, batch) for batch in batches]
        loss = loss_of(outputs)
        # Weights without a gradient keep None instead of 0, so that the optimizer does not decay or move them.
        self._model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped

        return Step(float(loss.detach()), tuple(map(_detached, outputs)), (FORWARD + BACKWARD) * studies)

    def _in_pieces(self, batches: Sequence[Batch], loss_of: LossOf) -> Step:
        replays = []
        outputs = []

        for batch in batches:
            plan = [(piece, *_without_graph(self._model, piece)) for piece in self._pieces(batch)]
            replays.append([(piece, random) for piece, random, _ in plan])
            outputs.append(_leaf(_joined([output for _, _, output in plan])))

        loss = loss_of(outputs)
        # To the outputs only, which are leaves here: the model has no graph yet.
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._model.zero_grad(set_to_none=True)

        # Forward again, now with a graph, and each piece backwards with its rows of the gradient.
        for pieces, whole in zip(replays, outputs, strict=True):
            start = 0
            for piece, random in pieces:
                # The same dropout masks as in the first forward, or this gradient belongs to another model.
                random.restore()
                again = forward(self._model, piece)
                rows = slice(start, start := start + len(piece))
                _backward(again, whole, rows)

        cost = (2 * FORWARD + BACKWARD) * sum(map(len, batches))

        return Step(float(loss.detach()), tuple(map(_detached, outputs)), cost)

    def _pieces(self, batch: Batch) -> Iterator[Batch]:
        size = self.size or len(batch)
        for start in range(0, len(batch), size):
            cut = slice(start, start + size)
            yield Batch(batch.images[cut], batch.tokens[cut], batch.mask[cut], batch.labels[cut], batch.rows[cut])

    def _retried(self, studies: int, work: Callable[[], T]) -> T:
        while True:
            count = min(self.size or studies, studies)
            try:
                return work()
            except torch.OutOfMemoryError:
                if count == 1:
                    raise UnavailableError(
                        "not enough memory for one study: lower data.image_size, or set device = cpu"
                    ) from None

            # Outside the handler: until it ends, the exception keeps the tensors that did not fit alive.
            self._model.zero_grad(set_to_none=True)
            self.size = (count + 1) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            log.warning("out of memory with %d studies at once, going on with %d", count, self.size)


@dataclass(frozen=True, slots=True)
class _Random:
    """State of the random number generators that dropout uses."""

    device: torch.device
    cpu: Tensor
    gpu: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> _Random:
        gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(device, torch.get_rng_state(), gpu)

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.gpu is not None:
            torch.cuda.set_rng_state(self.gpu, self.device)


@torch.no_grad()
def _without_graph(model: ImageTextModel, piece: Batch) -> tuple[_Random, Outputs]:
    return _Random.now(piece.images.device), forward(model, piece)


def _backward(again: Outputs, whole: Outputs, rows: slice) -> None:
    """Backpropagate a piece's `rows` of the whole batch's gradient; a loss may use only one kind of output."""
    pairs = ((again.embeddings, whole.embeddings.grad), (again.logits, whole.logits.grad))
    used = [(output, gradient[:, rows]) for output, gradient in pairs if gradient is not None]
    torch.autograd.backward([output for output, _ in used], [gradient for _, gradient in used])


def _joined(parts: Sequence[Outputs]) -> Outputs:
    if len(parts) == 1:
        return parts[0]
    return Outputs(torch.cat([p.embeddings for p in parts], dim=1), torch.cat([p.logits for p in parts], dim=1))


def _detached(outputs: Outputs) -> Outputs:
    return Outputs(outputs.embeddings.detach(), outputs.logits.detach())


def _leaf(outputs: Outputs) -> Outputs:
    return Outputs(outputs.embeddings.requires_grad_(), outputs.logits.requires_grad_())
