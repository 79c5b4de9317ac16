"""Rehearsed patients against never-seen patients of the same hospital and label, each minus their own floor.

Arrays may have leading axes, one entry a rehearsal of the same size. Margins are high for members.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BETWEEN = 0.2**2
"""Variance between campaigns, in units of that of one never-seen patient; it only makes sizes comparable."""
_LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Margins:
    """Margins under one model.

    Attributes:
        patients: `[..., 3, n]`.
        controls: `[..., 3, C]`, or `[..., 3, n, C]` where each patient has a model of their own.
    """

    patients: Floats
    controls: Floats

    @property
    def by_patient(self) -> Floats:
        """Margins of the controls as each patient meets them, `[..., 3, n or 1, C]`."""
        return self.controls if self.controls.ndim > self.patients.ndim else self.controls[..., None, :]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One rehearsal at the hospital whose patients were drawn; `b` is the branch, `c` the control.

    Attributes:
        rehearsed: `[..., 3]`, D_m.
        original: `[..., 3]`, the same before the rehearsal.
        nearer: `[..., 3]`, see `BranchRehearsals`.
        residual: `[..., 3]`, mean margin less that under the fold model, in units of a never-seen patient's spread.
        high: `[..., 3]`, number of patients who stand out as known.
        low: `[..., 3]`, number of patients who stand out as over-forgotten.
        rehearsed_by_control: `[..., 3, C]`, what each control contributes: D_m is the sum over labels of their means.
        original_by_control: `[..., 3, C]`.
    """

    rehearsed: Floats
    original: Floats
    nearer: Floats
    residual: Floats
    high: Ints
    low: Ints
    rehearsed_by_control: Floats
    original_by_control: Floats


def compare(
    rehearsed: Margins, original: Margins, floor: Margins, labels: Ints, control_labels: Ints, share_level: float = 0.05
) -> Comparison:
    """Compare `labels` `[..., n]` with `control_labels` `[C]`; each label must occur among the controls.

    `floor` is the fold model that never saw the patient, another one for each patient if need be.
    """
    same = (labels[..., :, None] == control_labels).astype(float)
    # Controls of a label weigh as much together as the patient does, however many there are.
    weights = same / same.sum(axis=-1, keepdims=True)
    weights = weights[..., None, :, :]
    wins = [_wins(margins) for margins in (rehearsed, original, floor)]
    after, before, never = [(w * weights).sum(axis=-1) for w in wins]
    size = labels.shape[-1]
    counts = (control_labels[:, None] == control_labels).sum(axis=1)
    # Times the controls of the label: `shared_variance` takes the mean over a label's controls again.
    by_control = [((w - wins[2]) * weights).sum(axis=-2) * counts / size for w in wins[:2]]
    own, others = _calibrated(rehearsed, floor)
    extreme = others.shape[-1] + 1
    # A rank test: the patient counts among the controls, so that no p is 0.
    p_high = (1 + (others >= own[..., None]).sum(axis=-1)) / extreme
    p_low = (1 + (others <= own[..., None]).sum(axis=-1)) / extreme

    return Comparison(
        rehearsed=(after - never).mean(axis=-1),
        original=(before - never).mean(axis=-1),
        nearer=(np.abs(after - before) - np.abs(after - never)).mean(axis=-1),
        residual=residuals(rehearsed, floor),
        high=(p_high <= share_level).sum(axis=-1),
        low=(p_low <= share_level).sum(axis=-1),
        rehearsed_by_control=by_control[0],
        original_by_control=by_control[1],
    )


def residuals(audited: Margins, floor: Margins) -> Floats:
    """Mean margin less that under the fold model, in units of a never-seen patient's spread: `[..., 3]`."""
    own, others = _calibrated(audited, floor)
    spread = np.maximum(others.std(axis=-1), _LEAST)

    return np.asarray((own / spread).mean(axis=-1))


def distance(residual: Floats, patients: int) -> float:
    """Studentised distance of one campaign from the never-seen level: the largest of the residuals `[3]`."""
    # The mean of few patients spreads more; divided by its spread, campaigns of all sizes are compared.
    return float(np.abs(residual).max() / np.sqrt(BETWEEN + 1 / patients))


def _wins(margins: Margins) -> Floats:
    """1 where a control has the lower margin, 1/2 where it has the same: `[..., 3, n, C]`."""
    patients = margins.patients[..., :, None]
    controls = margins.by_patient
    return np.asarray((controls < patients) + 0.5 * (controls == patients))


def _calibrated(rehearsed: Margins, floor: Margins) -> tuple[Floats, Floats]:
    """Margins less those under the fold model, in units of the controls' spread: `[..., 3, n]` and `[..., 3, n, C]`."""
    # A fold model, trained on fewer patients, may be more or less certain throughout. In units of its own controls'
    # spread the two can be subtracted.
    patients, controls = _scaled(rehearsed)
    floor_patients, floor_controls = _scaled(floor)
    others = np.broadcast_to(controls - floor_controls, (*patients.shape, controls.shape[-1]))

    return patients - floor_patients, others


def _scaled(margins: Margins) -> tuple[Floats, Floats]:
    controls = margins.by_patient
    centre = controls.mean(axis=-1, keepdims=True)
    spread = np.maximum(controls.std(axis=-1, keepdims=True), _LEAST)

    return (margins.patients - centre[..., 0]) / spread[..., 0], (controls - centre) / spread
