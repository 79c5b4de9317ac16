"""KLoM: how far the margins of a patient under unlearned models are from those under models that never saw them.

The distribution of margins over models is taken as normal, for each patient, and compared by its Kullback-Leibler
divergence (Georgiev et al. 2024, arXiv 2410.23232, there with histograms of a hundred models). Independent retrainings
differ too, so the number says something only beside that of retrained models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
LEAST_MODELS = 3
"""Of each kind and patient, for a mean and a deviation."""


def klom(margins: Floats, unlearned: Bools, never: Bools) -> Floats:
    """Divergence of each patient in nats, `[patients]`; NaN for patients with too few models of a kind.

    Args:
        margins: `[models, patients]`, under models that were all unlearned by one method.
        unlearned: `[models, patients]`, whether the model unlearned the patient.
        never: the same, whether the model never saw the patient.
    """
    result = np.full(margins.shape[1], np.nan)

    for patient in range(margins.shape[1]):
        ours = margins[unlearned[:, patient], patient]
        theirs = margins[never[:, patient], patient]
        if min(len(ours), len(theirs)) < LEAST_MODELS:
            continue
        # Models that agree to the last bit would have no variance, and the divergence no value.
        variance = max(float(ours.var(ddof=1)), 1e-6)
        other = max(float(theirs.var(ddof=1)), 1e-6)
        gap = float(ours.mean() - theirs.mean()) ** 2
        result[patient] = 0.5 * (np.log(other / variance) + (variance + gap) / other - 1)

    return result
