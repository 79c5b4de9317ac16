"""Trains every baseline on the patients that the model was trained on, and tests it on the same test patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse, vstack
from sklearn.preprocessing import StandardScaler

from client.cohort.site_files import read_site
from common.learning.config import ModelConfig
from common.learning.evaluation.metrics import macro_auc, merge_utility, utility
from common.learning.evaluation.scores import Scores
from common.learning.records import Study, Subset
from simulations.baseline_result import BaselineResult
from simulations.run.baselines.classifiers import STRENGTHS, Classifier, Labelled, federated, pooled
from simulations.run.baselines.features import Features, frozen_encoders, tf_idf
from simulations.run.prepare import Prepared

Branch = Literal["image", "text", "both"]
Sets = Mapping[Subset, tuple[Study, ...]]
_LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Encoders:
    """Local folders of frozen encoders; none by default."""

    text: Path | None = None
    image: Path | None = None


def run_baselines(
    prepared: Prepared, seed: int, encoders: Encoders = Encoders(), *, on_progress: Callable[[int, int], None]
) -> list[BaselineResult]:
    """Each baseline pooled, federated, and at each hospital alone.

    The regularisation is chosen by the AUC of the pooled classifier on validation patients.

    Raises:
        ConfigError: a folder holds no encoder.
    """
    sites = {name: _sets(prepared, name) for name in prepared.sites}
    kinds = _kinds(prepared, sites, _or_the_models_own(encoders, prepared.card.model))
    results: list[BaselineResult] = []
    for number, (name, branch, features) in enumerate(kinds):
        on_progress(number, len(kinds))
        results += _baseline(name, branch, features, sites, len(prepared.card.classes), seed)

    on_progress(len(kinds), len(kinds))

    return results


def _sets(prepared: Prepared, site: str) -> Sets:
    file = read_site(prepared.site_folder(site))
    return {
        subset: tuple(study for study in file.cohort.studies if file.subsets.get(study.patient) is subset)
        for subset in (Subset.TRAIN, Subset.VALIDATION, Subset.TEST)
    }


def _or_the_models_own(encoders: Encoders, model: ModelConfig) -> Encoders:
    """The encoders that were asked for; otherwise those of the model's own folders."""
    text = Path(model.text_folder) if model.text_encoder == "folder" else None
    image = Path(model.image_folder) if model.image_encoder == "folder" else None
    return Encoders(encoders.text or text, encoders.image or image)


def _kinds(prepared: Prepared, sites: Mapping[str, Sets], encoders: Encoders) -> list[tuple[str, Branch, Features]]:
    training = [sets[Subset.TRAIN] for sets in sites.values()]
    kinds: list[tuple[str, Branch, Features]] = [("TF-IDF + logistic regression", "text", tf_idf(training))]
    text = None if encoders.text is None else _scaled(frozen_encoders(encoders.text, prepared, "text"), training)
    image = None if encoders.image is None else _scaled(frozen_encoders(encoders.image, prepared, "image"), training)
    if text is not None:
        kinds.append(("frozen text encoder + logistic regression", "text", text))
    if image is not None:
        kinds.append(("frozen image encoder + logistic regression", "image", image))
    if text is not None and image is not None:
        kinds.append(("both frozen encoders + logistic regression", "both", _joined(text, image)))
    return kinds


def _scaled(features: Features, training: Sequence[Sequence[Study]]) -> Features:
    """Each feature with mean 0 and variance 1 over training: sums that hospitals can add up."""
    scaler = StandardScaler()
    for studies in training:
        if studies:
            scaler.partial_fit(features(studies))

    return lambda studies: scaler.transform(features(studies))


def _joined(first: Features, right: Features) -> Features:
    return lambda studies: np.hstack([first(studies), right(studies)])


def _baseline(
    name: str, branch: Branch, features: Features, sites: Mapping[str, Sets], classes: int, seed: int
) -> list[BaselineResult]:
    sets = {
        subset: {site: _labelled(features, sets[subset]) for site, sets in sites.items() if sets[subset]}
        for subset in (Subset.TRAIN, Subset.VALIDATION, Subset.TEST)
    }
    training = sets[Subset.TRAIN]
    everybody = _stacked(list(training.values()))
    validation = _stacked(list(sets[Subset.VALIDATION].values()))
    candidates = {strength: pooled(everybody, classes, strength) for strength in STRENGTHS}
    # Chosen once, for all ways of training, on patients that the test does not use.
    strength = max(STRENGTHS, key=lambda value: _plain_auc(candidates[value], validation, classes))

    alone = {site: pooled(part, classes, strength) for site, part in training.items()}
    together = federated(list(training.values()), classes, strength, seed)
    ways: dict[Literal["pooled", "federated", "alone"], Callable[[str], Classifier | None]] = {
        "pooled": lambda _: candidates[strength],
        "federated": lambda _: together,
        "alone": alone.get,
    }

    results = []

    for training_kind, classifier_of in ways.items():
        scores = {
            site: _scores(classifier, part, sites[site][Subset.TEST])
            for site, part in sets[Subset.TEST].items()
            if (classifier := classifier_of(site)) is not None
        }
        within = merge_utility([utility(one, 0, classes) for one in scores.values()])
        across = utility(all_in_one(list(scores.values())), 0, classes)
        results.append(
            BaselineResult(
                name=name,
                branch=branch,
                training=training_kind,
                auc=macro_auc(within),
                auc_across=macro_auc(across),
                patients=within.patients,
            )
        )

    return results


def _labelled(features: Features, studies: Sequence[Study]) -> Labelled:
    return Labelled(features(studies), np.array([study.label for study in studies], dtype=np.int64))


def _stacked(parts: Sequence[Labelled]) -> Labelled:
    matrices = [part.features for part in parts]
    features = vstack(matrices).tocsr() if issparse(matrices[0]) else np.vstack(matrices)
    return Labelled(features, np.concatenate([part.labels for part in parts]))


def _plain_auc(classifier: Classifier, part: Labelled, classes: int) -> float:
    scores = Scores(_logits(classifier(part.features)), part.labels, np.arange(len(part.labels)))
    return macro_auc(utility(scores, 0, classes)) or 0.0


def _scores(classifier: Classifier, part: Labelled, studies: Sequence[Study]) -> Scores:
    numbers = {patient: at for at, patient in enumerate(dict.fromkeys(study.patient for study in studies))}
    patients = np.array([numbers[study.patient] for study in studies], dtype=np.int64)
    return Scores(_logits(classifier(part.features)), part.labels, patients)


def all_in_one(parts: Sequence[Scores]) -> Scores:
    """Patients of all hospitals in one group."""
    # Each hospital numbers its patients from 0; shifted, no two of them are taken for one patient.
    offsets = np.cumsum([0, *(int(part.patients.max()) + 1 for part in parts)])
    return Scores(
        np.concatenate([part.logits for part in parts], axis=1),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.patients + offset for part, offset in zip(parts, offsets, strict=False)]),
    )


def _logits(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities as the logits of one branch, `[1, studies, classes]`."""
    # Clipped: the logarithm of a class that was never trained on would be minus infinity.
    return np.asarray(np.log(probabilities.clip(_LEAST))[None])
