"""A GPU computes what a CPU does, at the sizes of the paper, and with less memory than a batch needs.

Run with `pytest -m gpu` on a machine with an NVIDIA card; left out otherwise.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoder_folders import save_image, save_text
from torch import Tensor

from common.learning.config import DataConfig, ModelConfig, TrainConfig, UnlearnConfig
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.tensors import Batch, StudyTensors
from common.learning.data.tokenizer import load_tokenizer
from common.learning.micro_batches import MicroBatches, forward
from common.learning.model.checkpoint import ModelCard
from common.learning.model.image_text import ImageTextModel
from common.learning.model.loss import task_loss
from common.learning.training import fit
from common.learning.unlearning.base import UnlearnSets
from common.learning.unlearning.methods import method_named

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
NO_CLIP = 1e9
BATCH = 16

OUTPUTS = {"fp32": 1e-4, "bf16": 1e-2}
"""Largest difference of outputs and losses from the CPU's, relative to their norm. A bf16 number has 8 bits of
precision, so is off by up to 0.4 %."""
GRADIENTS = {"fp32": 1e-4, "bf16": 5e-2}
ALIKE = {
    ("forget_mi_calibrated", "fp32"): 0.995,
    ("forget_mi_calibrated", "bf16"): 0.90,
    ("forget_mi_paper", "fp32"): 0.50,
    ("forget_mi_paper", "bf16"): 0.50,
}
"""Smallest cosine between the ways that the weights went in one pass. AdamW's first steps follow the sign of the
gradient, so rounding turns the weights whose gradient is nearly zero; the paper's retention terms begin at a distance
of zero, where rounding alone gives them a direction."""
LOSS = 0.05
"""Largest difference of a pass's mean loss, for the same reason."""
LARGE = 0.1
"""As `GRADIENTS`, for 12 layers of text and 7 of images in bf16, between pieces of other sizes."""


@pytest.fixture(params=["fp32", "bf16"])
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """fp32 without TF32, or bf16 as every forward on a GPU has it."""
    if request.param == "fp32":
        monkeypatch.setattr("common.learning.micro_batches.autocast", lambda _: nullcontext())
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield request.param


@pytest.fixture
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return torch.device("cuda")


@pytest.fixture
def studies(cohort_of: Callable[..., Any], tensors_of: Callable[..., StudyTensors]) -> StudyTensors:
    return tensors_of(cohort_of(4, studies=2))


def everything(studies: StudyTensors, device: torch.device) -> Batch:
    return studies.batch(np.arange(len(studies), dtype=np.int64), device)


def differ(one: Tensor, other: Tensor) -> float:
    one = one.detach().double().cpu()
    other = other.detach().double().cpu()
    return float((one - other).norm() / other.norm())


def gradient(model: ImageTextModel) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double().cpu()


def stepped(model: ImageTextModel, batch: Batch, size: int) -> tuple[Tensor, MicroBatches, float]:
    """The gradient of the training loss over the batch, and the loss; the weights stay."""
    micro = MicroBatches(model, size)
    loss = micro.step(
        torch.optim.SGD(model.parameters(), lr=0.0),
        [batch],
        lambda outputs: task_loss(outputs[0], batch.labels, 0.1),
        NO_CLIP,
    ).loss
    return gradient(model), micro, loss


def test_outputs_loss_and_gradient_are_those_of_a_cpu(
    gpu: torch.device, precision: str, card: ModelCard, studies: StudyTensors
) -> None:
    here = card.build(1).eval()
    there = copy.deepcopy(here).to(gpu)
    with torch.no_grad():
        expected = forward(here, everything(studies, CPU))
        found = forward(there, everything(studies, gpu))

    assert found.logits.dtype == torch.float32
    assert differ(found.embeddings, expected.embeddings) < OUTPUTS[precision]
    assert differ(found.logits, expected.logits) < OUTPUTS[precision]
    expected_gradient, _, expected_loss = stepped(here, everything(studies, CPU), 0)
    found_gradient, _, found_loss = stepped(there, everything(studies, gpu), 0)
    assert found_loss == pytest.approx(expected_loss, rel=OUTPUTS[precision])
    assert differ(found_gradient, expected_gradient) < GRADIENTS[precision]


@pytest.mark.parametrize("method", ["forget_mi_paper", "forget_mi_calibrated"])
def test_one_pass_of_forget_mi_goes_the_way_it_goes_on_a_cpu(
    gpu: torch.device,
    precision: str,
    method: str,
    card: ModelCard,
    cohort_of: Callable[..., Any],
    tensors_of: Callable[..., StudyTensors],
) -> None:
    sets = UnlearnSets(
        forget=tensors_of(cohort_of(4, name="f", seed=1)),
        retain=tensors_of(cohort_of(6, name="r", seed=2)),
        calibration=tensors_of(cohort_of(6, name="c", seed=3)),
    )
    start = card.build(1)
    fit(start, sets.forget, TrainConfig(lr=5e-3, batch=8), ranking_weight=0.1, epochs=10, seed=0)
    # Noise on words only: for pixels the generators of the two devices draw other numbers.
    config = UnlearnConfig(passes=1, batch=4, noise="text")
    ways = []
    losses = []

    for device in (CPU, gpu):
        model = copy.deepcopy(start).to(device)
        done = method_named(method)(model, sets, config, ranking_weight=0.1, seed=0, on_pass=lambda *_: None)
        pairs = zip(start.parameters(), model.parameters(), strict=True)
        ways.append(torch.cat([(after.cpu() - before).detach().flatten() for before, after in pairs]))
        losses.append(done.passes[0].loss)

    assert losses[1] == pytest.approx(losses[0], abs=LOSS)
    assert float(torch.cosine_similarity(ways[0], ways[1], dim=0)) > ALIKE[method, precision]


@pytest.fixture
def large(tmp_path: Path, cohort_of: Callable[..., Any], gpu: torch.device) -> tuple[ImageTextModel, StudyTensors]:
    """A text encoder of SciBERT's size, made-up weights; the paper's image encoder; 16 images of 2048 x 2048."""
    from transformers import BertConfig, BertModel

    text = BertConfig(vocab_size=31090, hidden_size=768, num_hidden_layers=12, num_attention_heads=12)
    BertModel(text, add_pooling_layer=False).save_pretrained(tmp_path / "text")
    data = DataConfig(image_size=2048, max_tokens=128)
    model = ModelConfig(
        image_encoder="resnet7",
        text_encoder="transformers",
        text_folder=str(tmp_path / "text"),
        text_layers=12,
        embedding=768,
    )
    tokenizer = load_tokenizer(data.tokenizer, data.max_tokens)
    card = ModelCard(model=model, data=data, classes=("clear", "opacity"), vocab_size=tokenizer.vocab_size)
    cohort = cohort_of(BATCH, studies=1)
    studies = StudyTensors(cohort.studies, ImageCache(tmp_path / "cache", data.image_size, 2**30), tokenizer)

    return card.build(1).eval().to(gpu), studies


def peak(model: ImageTextModel, batch: Batch, size: int) -> tuple[Tensor, int]:
    """The gradient in pieces of `size`, and the most bytes that were reserved for it."""
    model.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    found, _, _ = stepped(model, batch, size)

    return found, torch.cuda.max_memory_reserved()


def test_the_papers_sizes_train_at_a_batch_of_16_in_pieces_and_in_less_memory(
    gpu: torch.device, large: tuple[ImageTextModel, StudyTensors]
) -> None:
    model, studies = large
    batch = everything(studies, gpu)
    assert batch.images.shape == (BATCH, 1, 2048, 2048)
    assert sum(p.numel() for p in model.text_encoder.parameters()) > 100e6
    fours, more = peak(model, batch, 4)
    ones, less = peak(model, batch, 1)
    assert differ(ones, fours) < LARGE
    assert less < more
    project = model.text_encoder.project
    assert isinstance(project, torch.nn.Linear)
    before = copy.deepcopy(project.weight)
    told = fit(model, studies, TrainConfig(batch=BATCH, micro_batch=4), ranking_weight=0.1, epochs=1, seed=0)
    assert np.isfinite(told.loss)
    assert not torch.equal(before, project.weight)


def test_a_card_whose_memory_is_too_small_for_the_batch_takes_smaller_pieces_to_the_same_gradient(
    gpu: torch.device, large: tuple[ImageTextModel, StudyTensors], caplog: pytest.LogCaptureFixture
) -> None:
    model, studies = large
    batch = everything(studies, gpu)
    expected, small = peak(model, batch, 2)
    _, needed = peak(model, batch, 8)
    assert needed > small
    total = torch.cuda.get_device_properties(gpu).total_memory
    model.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((small + needed) / 2 / total)

    try:
        with caplog.at_level(logging.WARNING, logger="fedforget.training"):
            found, micro, _ = stepped(model, batch, 8)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

    assert 0 < micro.size < 8
    assert "out of memory with 8 studies at once, going on with 4" in caplog.text
    assert differ(found, expected) < LARGE


@pytest.mark.parametrize("settings", [{}, {"frozen": "both"}, {"adapters": "both"}])
@pytest.mark.parametrize(("image", "text"), [("vit", "bert"), ("convnext", "modernbert"), ("resnet", "deberta")])
def test_encoders_of_folders_compute_what_they_compute_on_the_cpu(
    gpu: torch.device, precision: str, settings: dict[str, Any], image: str, text: str, tmp_path: Path
) -> None:
    if "adapters" in settings:
        pytest.importorskip("peft")
    model = ModelConfig(
        image_encoder="folder",
        image_folder=str(save_image(tmp_path / "image", image)),
        text_encoder="folder",
        text_folder=str(save_text(tmp_path / "text", text)),
        embedding=8,
        **settings,
    )
    card = ModelCard(model=model, data=DataConfig(), classes=("clear", "opacity"), vocab_size=1).pinned()
    here = card.build(1).eval()
    there = card.build(1).to(gpu).eval()
    tokens = torch.randint(4, 12, (4, card.data.max_tokens))
    images = torch.rand(4, 1, card.data.image_size, card.data.image_size)
    batch = Batch(images, tokens, torch.ones_like(tokens), torch.tensor([0, 1, 0, 1]), np.arange(4))
    on_gpu = Batch(images.to(gpu), tokens.to(gpu), batch.mask.to(gpu), batch.labels.to(gpu), batch.rows)

    expected = forward(here, batch).logits
    logits = forward(there, on_gpu).logits
    assert float((logits.cpu() - expected).norm() / expected.norm()) < 5 * OUTPUTS[precision]
    task_loss(forward(there, on_gpu), on_gpu.labels, 0.1).backward()  # type: ignore[no-untyped-call]
    assert all(torch.isfinite(weight.grad).all() for weight in there.parameters() if weight.grad is not None)
