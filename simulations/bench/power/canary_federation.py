"""Made-up federations for `canaries`: their patients, how they train, and what a hospital returns."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from common.learning.config import DataConfig, ModelConfig, TrainConfig, UnlearnConfig
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.tensors import StudyTensors
from common.learning.data.tokenizer import load_tokenizer
from common.learning.device import derive_seed
from common.learning.evaluation.metrics import utility
from common.learning.model.card import ModelCard
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Study
from common.learning.training import fit, score
from common.learning.unlearning.base import UnlearnSets, nothing
from common.learning.unlearning.methods import method_named
from simulations.synthetic.anatomy import draw_radiograph
from simulations.synthetic.patients import make_hospital, make_patient
from simulations.synthetic.reports import write_report

Kind = Literal["plausible", "mislabelled"]
HOSPITALS = 3
PATIENTS = 48
"""Training patients of each hospital."""
CANARIES = 10
REFERENCE = 120
"""Made-up patients whom no hospital gets, to compare canaries with."""
_CLASSES = ("0", "1", "2", "3")
_SIZE = 32
_DATA = DataConfig(image_size=_SIZE, max_tokens=48)
_MODEL = ModelConfig(width=4, embedding=16, text_hidden=16, text_layers=1)
_TRAIN = TrainConfig(batch=8, lr=3e-3)
_ROUNDS = 6
_EPOCHS = 3
_FUSED = 2


class Federation:
    """The patients of one seed, as tensors."""

    def __init__(self, root: Path, seed: int) -> None:
        self._root = root
        self.seed = seed
        self._cache = ImageCache(root / "cache", _SIZE, 2**26)
        self._tokenizer = load_tokenizer(_DATA.tokenizer, _DATA.max_tokens)
        self.card = ModelCard(model=_MODEL, data=_DATA, classes=_CLASSES, vocab_size=self._tokenizer.vocab_size)
        self.train = [self._patients(f"train-{n}", n, PATIENTS) for n in range(HOSPITALS)]
        self.calibration = self._patients("calibration", 0, 24)
        self.never_seen = self._patients("never", 0, REFERENCE)
        self.test = [study for n in range(HOSPITALS) for study in self._patients(f"test-{n}", n, 60)]

    def made_up(self, kind: Kind) -> tuple[list[Study], list[Study], list[Study]]:
        """The canaries, as many that no hospital gets, and the reference."""
        parts = [self._patients(name, 0, n) for name, n in self._sets(kind)]
        if kind == "mislabelled":
            # Wrong by two classes: a label beside the right one is what a model might guess anyway.
            parts = [[replace(study, label=(study.label + 2) % len(_CLASSES)) for study in part] for part in parts]
        return parts[0], parts[1], parts[2]

    def tensors(self, studies: list[Study]) -> StudyTensors:
        """Ready to train on."""
        return StudyTensors(tuple(studies), self._cache, self._tokenizer)

    @staticmethod
    def _sets(kind: Kind) -> tuple[tuple[str, int], ...]:
        return (f"{kind}-canary", CANARIES), (f"{kind}-absent", CANARIES), (f"{kind}-reference", REFERENCE)

    def _patients(self, name: str, number: int, count: int) -> list[Study]:
        hospital = make_hospital(number + 1, np.random.default_rng([self.seed, number]))
        rng = np.random.default_rng(derive_seed(self.seed, name))
        studies = []

        for index in range(count):
            patient = make_patient(index, hospital, rng)
            path = self._root / f"{name}-{index}.png"
            pixels = draw_radiograph(patient, patient.severity, hospital, _SIZE, rng)
            Image.fromarray((255 * np.clip(pixels, 0, 1)).astype(np.uint8)).save(path)
            report = write_report(patient, patient.severity, hospital.style, rng)
            label = patient.label(patient.severity)
            studies.append(Study(f"{name}-{index}", f"{name}-{index}", path, report, label, site=hospital.name))

        return studies


def trained(federation: Federation, more: list[Study]) -> ImageTextModel:
    """Federated averaging; the first hospital has `more` patients."""
    sets = [
        federation.tensors(patients + (more if number == 0 else [])) for number, patients in enumerate(federation.train)
    ]
    model = federation.card.build(federation.seed)

    for number in range(_ROUNDS):
        locals_ = []
        for site, studies in enumerate(sets):
            local = copy.deepcopy(model)
            seed = derive_seed(federation.seed, "fit", number, site)
            fit(local, studies, _TRAIN, ranking_weight=0.0, epochs=_EPOCHS, seed=seed)
            locals_.append(local.state_dict())
        model.load_state_dict({name: _mean([state[name] for state in locals_]) for name in locals_[0]})

    return model


def _mean(tensors: list[torch.Tensor]) -> torch.Tensor:
    first = tensors[0]
    # Counters, such as the number of batches, are equal everywhere and have no mean.
    return torch.stack(tensors).mean(0) if first.is_floating_point() else first


def unlearned(
    federation: Federation, parent: ImageTextModel, forget: list[Study], retain: list[Study], passes: int
) -> tuple[ImageTextModel, int]:
    """What the hospital returns, and the passes that it took."""
    model = copy.deepcopy(parent)
    sets = UnlearnSets(
        federation.tensors(forget), federation.tensors(retain), federation.tensors(federation.calibration)
    )
    config = UnlearnConfig(passes=passes)
    trace = method_named(config.method)(model, sets, config, ranking_weight=0.0, seed=federation.seed, on_pass=nothing)

    return model, len(trace.passes)


def random_step(parent: ImageTextModel, honest: ImageTextModel, seed: int) -> ImageTextModel:
    """The parent moved as far as the honest model, in a random direction."""
    generator = torch.Generator().manual_seed(seed)
    model = copy.deepcopy(parent)
    before = parent.state_dict()
    floating = [name for name, tensor in before.items() if tensor.is_floating_point()]
    after = honest.state_dict()
    length = sum(float((after[name] - before[name]).square().sum()) for name in floating) ** 0.5
    noise = {name: torch.randn(before[name].shape, generator=generator) for name in floating}
    scale = length / sum(float(step.square().sum()) for step in noise.values()) ** 0.5
    # A variance that a layer keeps is never negative.
    noisy_weights = {
        name: before[name] + scale * step for name, step in noise.items() if not name.endswith("running_var")
    }
    model.load_state_dict({**before, **noisy_weights})

    return model


def losses(federation: Federation, model: ImageTextModel, studies: list[Study]) -> NDArray[np.float64]:
    """Of the fused branch."""
    return np.asarray(score(model, federation.tensors(studies)).loss[_FUSED])


def test_auc(federation: Federation, model: ImageTextModel) -> float:
    """Mean over the classes, at all hospitals' test patients."""
    figures = utility(score(model, federation.tensors(federation.test)), _FUSED, len(_CLASSES))
    return float(np.mean([auc.auc for auc in figures.auc if auc.auc is not None]))
