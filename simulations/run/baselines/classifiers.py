"""Logistic regression on pooled features, and the same by federated averaging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, SGDClassifier

from simulations.run.baselines.features import Matrix

STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""Inverse regularisation strengths that the validation patients choose from."""
_ROUNDS = 30
_LOCAL_EPOCHS = 5


@dataclass(frozen=True, slots=True)
class Labelled:
    """Features `[studies, features]` and labels `[studies]`."""

    features: Matrix
    labels: NDArray[np.int64]


class Classifier(Protocol):
    """Gives class probabilities `[studies, classes]`; a class that was never trained on has probability 0."""

    def __call__(self, features: Matrix) -> NDArray[np.float64]:
        """Probabilities of each study."""


def pooled(training: Labelled, classes: int, strength: float) -> Classifier:
    """Logistic regression on all of `training`."""
    # scikit-learn refuses to fit a single class.
    present = np.unique(training.labels)
    if len(present) < 2:
        return _constant(present, classes)

    model = LogisticRegression(C=strength, max_iter=2000)
    model.fit(training.features, training.labels)

    def probabilities(features: Matrix) -> NDArray[np.float64]:
        # Classes without training patients keep probability 0, so that columns are the same everywhere.
        result = np.zeros((features.shape[0], classes))
        result[:, present] = model.predict_proba(features)
        return result

    return probabilities


def federated(training: Sequence[Labelled], classes: int, strength: float, seed: int) -> Classifier:
    """One-vs-rest logistic regression by federated averaging: only coefficients leave a hospital.

    Hospitals take `_LOCAL_EPOCHS` epochs of stochastic gradient descent from the common coefficients in each round;
    these are averaged by numbers of studies (McMahan et al. 2017, arXiv 1602.05629).
    """
    parts = [part for part in training if len(part.labels)]
    total = sum(len(part.labels) for part in parts)
    sites = [_local(part, total, classes, strength, seed) for part in parts]
    weights = np.array([len(part.labels) / total for part in parts])

    coefficients = np.zeros_like(sites[0].coef_)
    intercepts = np.zeros_like(sites[0].intercept_)

    for _ in range(_ROUNDS):
        for site, part in zip(sites, parts, strict=True):
            site.coef_ = coefficients.copy()
            site.intercept_ = intercepts.copy()
            for _ in range(_LOCAL_EPOCHS):
                site.partial_fit(part.features, part.labels)

        coefficients = np.einsum("s,scf->cf", weights, np.stack([site.coef_ for site in sites]))
        intercepts = weights @ np.stack([site.intercept_ for site in sites])

    common = sites[0]
    common.coef_ = coefficients
    common.intercept_ = intercepts

    return cast(Classifier, common.predict_proba)


def _local(part: Labelled, total: int, classes: int, strength: float, seed: int) -> Any:
    """A hospital's own learner; it knows all classes, also those that none of its patients has."""
    # `alpha` weighs the mean loss where `C` weighs the sum; by the total of studies, both minimise the same.
    model = SGDClassifier(loss="log_loss", alpha=1.0 / (strength * total), random_state=seed)
    # One study is enough to create the coefficients, which the first round overwrites.
    model.partial_fit(part.features[:1], part.labels[:1], classes=np.arange(classes))
    return model


def _constant(present: NDArray[np.int64], classes: int) -> Classifier:
    def probabilities(features: Matrix) -> NDArray[np.float64]:
        result = np.zeros((features.shape[0], classes))
        result[:, present] = 1.0
        return result

    return probabilities
