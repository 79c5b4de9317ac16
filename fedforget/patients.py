"""Your own patients as tensors, in the form that unlearning and audits read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import CohortError
from common.learning.data.tensors import Batch, StudyTensors
from common.learning.model.image_text import Outputs

__all__ = ["Encode", "Outputs", "Patients"]

Encode = Callable[[Sequence[str]], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Function from reports to token ids and mask, each int64 `[n, tokens]`; wrap your tokenizer in one."""


class Patients(StudyTensors):
    """Studies of some patients.

    The model to unlearn or audit takes a batch of them as `model(images, tokens, mask)` and returns
    `Outputs(embeddings, logits)`, each `[3, batch, ...]` with the branches image, text, fused.

    Args:
        images: `[n, height, width]`, uint8, or float in [0, 1].
        tokens: int64 `[n, tokens]`, the reports' token ids.
        mask: int64 `[n, tokens]`, 1 for a token and 0 for padding.
        labels: `[n]`, class indices.
        patients: `[n]`, the patient of each study, any hashable value; by default each study is of another patient.
        reports: `[n]`, the texts; with `encode`, methods can make noisy copies of reports.
        encode: converts texts to tokens.

    Raises:
        CohortError: the lengths differ, or an image is neither uint8 nor float in [0, 1].
    """

    def __init__(
        self,
        images: Tensor | NDArray[Any],
        tokens: Tensor | NDArray[np.int64],
        mask: Tensor | NDArray[np.int64],
        labels: Tensor | Sequence[int] | NDArray[np.int64],
        patients: Sequence[object] | None = None,
        *,
        reports: Sequence[str] = (),
        encode: Encode | None = None,
    ) -> None:
        self.images = _pixels(torch.as_tensor(images))
        self.tokens = torch.as_tensor(tokens, dtype=torch.int64)
        self.mask = torch.as_tensor(mask, dtype=torch.int64)
        self.labels = torch.as_tensor(labels, dtype=torch.int64)

        owners = list(range(len(self.labels))) if patients is None else list(patients)
        lengths = {len(self.images), len(self.tokens), len(self.mask), len(self.labels), len(owners)}
        if len(lengths) > 1 or (reports and len(reports) != len(owners)):
            raise CohortError("images, tokens, mask, labels and patients differ in length")

        # Any hashable value names a patient; from here on, patients are numbers in the order of their first study.
        numbers = {patient: number for number, patient in enumerate(dict.fromkeys(owners))}
        self.patients = np.array([numbers[patient] for patient in owners], dtype=np.int64)
        # Every study has both image and report.
        self.branches = np.ones((3, len(owners)), dtype=np.bool_)
        self.can_change_reports = bool(reports) and encode is not None

        # `noisy_copy` reads two attributes of a hospital's studies: the report of each, and the tokenizer.
        self.studies = cast(Any, tuple(_Report(text) for text in reports) or (None,) * len(owners))
        self.tokenizer = cast(Any, _Tokenizer(encode) if encode else None)
        # No ledger can take patients away while a method runs, as at a hospital.
        self._withdrawn = None

    def batch(self, rows: NDArray[np.int64], device: torch.device) -> Batch:
        """The studies at `rows`, on `device`."""
        index = torch.from_numpy(rows)
        return Batch(
            images=self.images[index][:, None].to(device),
            tokens=self.tokens[index].to(device),
            mask=self.mask[index].to(device),
            labels=self.labels[index].to(device),
            rows=rows,
        )


@dataclass(frozen=True, slots=True)
class _Report:
    report: str


@dataclass(frozen=True, slots=True)
class _Tokenizer:
    encode: Encode


def _pixels(images: Tensor) -> Tensor:
    """Float `[n, height, width]` in [0, 1]."""
    if images.dtype == torch.uint8:
        images = images.to(torch.float32) / 255.0
    if not images.is_floating_point() or images.ndim != 3:
        raise CohortError("images must be [n, height, width], uint8 or float")
    # Pixels up to 255 would train silently, on inputs that the model has never seen.
    if len(images) and not 0.0 <= float(images.min()) <= float(images.max()) <= 1.0:
        raise CohortError("float images must lie in [0, 1]", remedy="divide by the largest value of the pixel type")
    return images.to(torch.float32)
