"""A model of two weights, for what is to be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.learning.data.tensors import StudyTensors
from common.learning.model.image_text import ImageTextModel, Outputs
from common.learning.unlearning.base import UnlearnSets

Study = tuple[int, int, int]
"""Image (0 or 1), text (a number) and label (0 or 1) of a study of the toy."""


class Toy(ImageTextModel):
    """Logits `[a x, 0]`, `[b t, 0]` and `[a x + b t, 0]` of image x and text t; embeddings are the first of each."""

    def __init__(self, a: float, b: float) -> None:
        nn.Module.__init__(self)
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def reset_parameters(self) -> None:
        """Three and four away from the origin."""
        with torch.no_grad():
            self.a.fill_(3.0)
            self.b.fill_(4.0)

    def forward(self, images: Tensor, tokens: Tensor, mask: Tensor) -> Outputs:  # noqa: ARG002 - a model's signature
        image = self.a * images[:, 0, 0, 0]
        text = self.b * tokens[:, 0].float()
        first = torch.stack([image, text, image + text])
        return Outputs(first[..., None], torch.stack([first, torch.zeros_like(first)], dim=2))

    @property
    def weights(self) -> tuple[object, object]:
        """a and b, to compare with numbers that are near."""
        return self.a.item(), self.b.item()


class ToyStudies(StudyTensors):
    """Studies of the toy, each of a patient of its own."""

    def __init__(self, studies: list[Study]) -> None:
        self.studies = tuple(studies)  # type: ignore[arg-type]  # numbers in place of files
        self._withdrawn = None
        self._image_features = None
        self._pixels = [np.full((1, 1), 255 * x, dtype=np.uint8) for x, _, _ in studies]
        self.tokens = torch.tensor([[t] for _, t, _ in studies])
        self.mask = torch.ones_like(self.tokens)
        self.labels = torch.tensor([y for _, _, y in studies])
        self.patients = np.arange(len(studies))


@pytest.fixture
def toy() -> Callable[[float, float], Toy]:
    """`toy(a, b)`."""
    return Toy


@pytest.fixture
def toy_studies() -> Callable[[list[Study]], StudyTensors]:
    """`toy_studies(studies)`, a list of (x, t, y)."""
    return ToyStudies


@pytest.fixture
def toy_sets() -> Callable[..., UnlearnSets]:
    """`toy_sets(forget, retain, calibration=())`, lists of (x, t, y)."""
    return lambda forget, retain, calibration=((0, 0, 0),): UnlearnSets(
        ToyStudies(list(forget)), ToyStudies(list(retain)), ToyStudies(list(calibration))
    )
