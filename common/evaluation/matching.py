"""Matched controls: never-seen patients of the same site, weighted to the label mix of the forgotten ones.

Without matching, a difference between hospitals or in how severe the patients are reads as membership.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Match:
    """Which patients are compared, and the weight of each control.

    Attributes:
        forget: int64 `[f]`, rows of the forget patients whose label some control has.
        control: int64 `[c]`, rows of the controls whose label some forget patient has.
        weights: float64 `[c]`, sum 1; the controls of a label share the weight that the label has in `forget`.
        forget_labels: int64 `[f]`.
        control_labels: int64 `[c]`.
        unmatched: forget patients left out because no control has their label.
    """

    forget: Ints
    control: Ints
    weights: Floats
    forget_labels: Ints
    control_labels: Ints
    unmatched: int


def match_controls(forget_labels: Ints, control_labels: Ints) -> Match:
    """Weight controls so that each label weighs as much among them as among the forget patients."""
    common = np.intersect1d(forget_labels, control_labels)
    forget = np.flatnonzero(np.isin(forget_labels, common))
    control = np.flatnonzero(np.isin(control_labels, common))
    kept, controls = forget_labels[forget], control_labels[control]
    shares = np.array([np.mean(kept == label) / np.sum(controls == label) for label in common])
    weights = shares[np.searchsorted(common, controls)] if len(common) else np.zeros(0)
    return Match(forget, control, weights, kept, controls, len(forget_labels) - len(forget))
