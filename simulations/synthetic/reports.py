"""Radiology reports in each hospital's own style; how severe the oedema is, they say only indirectly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from simulations.synthetic.patients import BUILDS, DEVICES, HEARTS, HISTORIES, REASONS, Patient

STYLES = 4
"""Ways of writing a report; hospitals take them in turn."""

SEVERITY: tuple[tuple[str, ...], ...] = (
    (
        "Vessels taper normally and are sharp to the periphery.",
        "Lung fields are well aerated, hilar contours crisp.",
        "Both angles are sharp and the lungs are clear.",
        "No sign of fluid overload.",
        "Airspaces clear, septa not visible.",
    ),
    (
        "Upper zone vessels are more prominent than before.",
        "Hilar contours slightly indistinct, vessels full.",
        "Redistribution of flow to the apices.",
        "Vascular pedicle has widened, airspaces still free.",
        "Minor cephalisation, angles remain sharp.",
    ),
    (
        "Perihilar blurring with thickened septal lines at the bases.",
        "Peribronchial cuffing, fluid in the fissure.",
        "Reticular markings increased, one angle blunted.",
        "Kerley lines are seen laterally, hila hazy.",
        "Interstitial markings are coarse with thickened fissures.",
    ),
    (
        "Confluent perihilar opacities in a bat wing pattern.",
        "Airspace shadowing from both hila, layering fluid.",
        "Dense alveolar filling with effusions on both sides.",
        "Both hemidiaphragms obscured, air bronchograms.",
        "Extensive central consolidation that spares the periphery.",
    ),
)
UNRELATED = (
    "Degenerative change of the thoracic spine.",
    "Old healed rib fracture.",
    "Calcified granuloma on the right.",
    "Calcification of the aortic knuckle.",
    "No pneumothorax.",
    "Mild scoliosis.",
    "Surgical clips in the upper abdomen.",
    "Shoulder joint is worn.",
    "Gas in the stomach.",
    "Bones are intact.",
)
_FRAMES = (
    "HISTORY: {history}, {reason}. FINDINGS: {severity} {traits} {other}",
    "{severity} {traits} {other} Clinical details: {history}, {reason}.",
    "1. {traits} 2. {severity} 3. {other} Request: {reason}; known {history}.",
    "Chest film for {reason}. Background of {history}. {traits} {other} Conclusion: {severity}",
)
BORROWED = 0.12
"""How often a reader words the oedema one degree off."""


def write_report(patient: Patient, severity: int, style: int, rng: np.random.Generator) -> str:
    """The report of one study, as the hospital with this style would dictate it; `severity` is 0 to 3."""
    # Two sentences, each worded by itself: they may disagree by a degree, as a reader's words do.
    degrees = [_worded(severity, rng) for _ in range(2)]
    first, second = (_one(SEVERITY[degree], rng) for degree in degrees)
    traits = [HEARTS[patient.heart_size], BUILDS[patient.build], DEVICES[patient.device]]

    return _FRAMES[style % STYLES].format(
        reason=_one(REASONS, rng),
        history=f"{patient.age} year old, {HISTORIES[patient.history[0]]} and {HISTORIES[patient.history[1]]}",
        severity=first if first == second else f"{first} {second}",
        traits=" ".join(trait for trait in traits if trait),
        other=_one(UNRELATED, rng),
    )


def phrases() -> Iterator[str]:
    """Every text that reports are made of."""
    for group in (*SEVERITY, UNRELATED, HEARTS, BUILDS, DEVICES.values(), HISTORIES, REASONS):
        yield from group
    yield from _FRAMES


def _worded(severity: int, rng: np.random.Generator) -> int:
    if rng.random() >= BORROWED:
        return severity
    return int(np.clip(severity + rng.choice([-1, 1]), 0, len(SEVERITY) - 1))


def _one(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
