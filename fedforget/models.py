"""A trained model from its folder, ready to predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from common.learning.data.imaging.images import fit, read_image
from common.learning.data.tokenizer import Tokenizer, load_tokenizer
from common.learning.evaluation.scores import BRANCHES
from common.learning.model.checkpoint import ModelCard, load_checkpoint
from common.learning.model.image_text import ImageTextModel


@dataclass(frozen=True, slots=True)
class Prediction:
    """Class probabilities of one study.

    Attributes:
        label: the most probable class, from image and report together.
        probabilities: probability of each class, from image and report together.
        branches: the same for each of `image`, `text` and `fused`.
    """

    label: str
    probabilities: dict[str, float]
    branches: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Model:
    """A model with its preprocessing. `network` is the torch module, in eval mode."""

    network: ImageTextModel
    card: ModelCard
    tokenizer: Tokenizer

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in the order of the outputs."""
        return self.card.classes

    def predict(self, image: Path | str | NDArray[np.uint8], report: str) -> Prediction:
        """Classify one study.

        Args:
            image: a PNG, JPEG or DICOM file, or greyscale uint8 `[height, width]`.
            report: text of the report.

        Raises:
            ImageError: the image cannot be read.
        """
        pixels = image if isinstance(image, np.ndarray) else read_image(Path(image))
        square = fit(pixels, self.card.data.image_size)
        tokens, mask = self.tokenizer.encode([report])

        with torch.no_grad():
            outputs = self.network(
                torch.from_numpy(square)[None, None].to(torch.float32) / 255.0,
                torch.from_numpy(tokens),
                torch.from_numpy(mask),
            )

        shares = outputs.logits[:, 0].double().softmax(dim=1).tolist()
        branches: dict[str, dict[str, float]] = {
            branch: dict(zip(self.classes, row, strict=True)) for branch, row in zip(BRANCHES, shares, strict=True)
        }
        fusion = branches["fused"]

        return Prediction(max(fusion, key=fusion.__getitem__), fusion, branches)


def load(folder: Path | str) -> Model:
    """Load a model: `model/<name>` of a simulation's folder, or a folder that `fedforget-server models export` wrote.

    Raises:
        CheckpointError: there is no model, or it is damaged.
        ConfigError: its tokenizer is not available.
    """
    state, card = load_checkpoint(Path(folder))
    network = card.build()
    network.load_state_dict(state)
    network.eval()

    return Model(network, card, load_tokenizer(card.data.tokenizer, card.data.max_tokens))
