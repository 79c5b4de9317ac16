"""The attack of the Forget-MI paper: a support vector classifier on the loss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def svc_member_share(forget: Floats, retain: Floats, never_seen: Floats) -> float | None:
    """Share of forget studies that the classifier calls members, from 0 to 1; read it together with the cross-entropy.

    None if all losses to learn from are equal: the classifier would then give everybody one arbitrary answer.

    A destroyed model gives 0; a retrained one gives the share of never-seen studies that are called members. C = 3
    and RBF as in arXiv 2506.23145; fitted per study on retain (member) against never-seen, classes balanced.

    Args:
        forget: losses `[n]` per study.
        retain: losses `[r]`.
        never_seen: losses `[c]` of calibration patients.
    """
    from sklearn.svm import SVC  # noqa: PLC0415 - a second of import that selection does not need

    values = np.concatenate([retain, never_seen])
    if np.ptp(values) == 0.0:
        return None
    members = np.concatenate([np.ones(len(retain)), np.zeros(len(never_seen))])
    classifier = SVC(C=3.0, kernel="rbf", class_weight="balanced").fit(values[:, None], members)

    return float(classifier.predict(forget[:, None]).mean())
