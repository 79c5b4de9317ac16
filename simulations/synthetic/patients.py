"""Made-up patients and hospitals: traits that stay with a patient, and what tells one hospital from another."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

SEVERITIES = 4
MISLABELLED = 0.18
"""Share of patients whose recorded label is not what can be seen; a model can only learn those by heart."""


class Device(StrEnum):
    """What surgeons left in the chest."""

    NONE = "none"
    PACEMAKER = "pacemaker"
    PORT = "port"
    WIRES = "wires"
    RODS = "rods"
    VALVE = "valve"


DEVICES = {
    Device.NONE: "",
    Device.PACEMAKER: "Left pacemaker with lead.",
    Device.PORT: "Right port catheter.",
    Device.WIRES: "Sternotomy wires in line.",
    Device.RODS: "Spinal fusion rods.",
    Device.VALVE: "Prosthetic valve ring.",
}
HEARTS = ("Heart is small.", "Heart size is normal.", "Heart is enlarged.", "Marked cardiomegaly.")
BUILDS = ("Slender chest.", "", "Broad chest.", "Barrel chest.")
HISTORIES = (
    "hypertension", "diabetes", "asthma", "emphysema", "atrial fibrillation", "lymphoma", "breast cancer",
    "kidney transplant", "dialysis", "cirrhosis", "stroke", "rheumatoid arthritis", "sarcoidosis", "myeloma",
    "aortic stenosis", "former miner", "former smoker", "epilepsy", "lupus", "gout", "sickle cell disease",
    "bypass surgery", "hip replacement", "cystic fibrosis", "thyroid goitre", "farmer", "retired welder", "obesity",
    "myocarditis", "pulmonary embolism", "colon cancer", "parkinson disease",
)  # fmt: skip
REASONS = (
    "shortness of breath",
    "cough",
    "chest pain",
    "fever",
    "swollen ankles",
    "routine follow up",
    "before surgery",
    "fall at home",
    "new oxygen need",
)


@dataclass(frozen=True, slots=True)
class Hospital:
    """How one hospital differs: severities, style of reports, and look of its scanner.

    Attributes:
        mix: share of each severity, `[4]`.
        gamma: exponent of the grey curve.
        noise: standard deviation of the detector's noise, in grey values of 0 to 1.
        blur: standard deviation of the blur, in parts of the image's side.
        low: stored value of black.
        span: stored values from black to white.
        rim: width of the collimated rim, in halves of the image's side.
        marker: top left of the lead L, in the coordinates of `anatomy`.
    """

    name: str
    mix: tuple[float, ...]
    style: int
    is_inverted: bool
    gamma: float
    noise: float
    blur: float
    low: int
    span: int
    rim: float
    marker: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Patient:
    """What does not change from study to study; `anatomy` seeds the ribs and vessels that are this patient's own."""

    number: int
    age: int
    sex: str
    heart_size: int
    build: int
    device: Device
    history: tuple[int, int]
    anatomy: int
    severity: int
    label_shift: int

    def label(self, severity: int) -> int:
        """The recorded label of a study in which `severity` can be seen."""
        return (severity + self.label_shift) % SEVERITIES


_MIXES = ((0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4), (0.25, 0.25, 0.25, 0.25), (0.2, 0.4, 0.3, 0.1))


def make_hospital(number: int, rng: np.random.Generator) -> Hospital:
    """Hospital `site-<number>`, counted from 1."""
    return Hospital(
        name=f"site-{number}",
        mix=_MIXES[(number - 1) % len(_MIXES)],
        style=number - 1,
        is_inverted=number % 3 == 2,
        gamma=float(rng.uniform(0.8, 1.25)),
        noise=float(rng.uniform(0.008, 0.025)),
        blur=float(rng.uniform(0.002, 0.006)),
        low=int(rng.integers(100, 600)),
        span=int(rng.integers(2400, 3300)),
        rim=float(rng.uniform(0.0, 0.06)),
        marker=(float(rng.uniform(0.78, 0.86)), float(rng.uniform(-0.88, -0.76))),
    )


def make_patient(number: int, hospital: Hospital, rng: np.random.Generator) -> Patient:
    """Patient `number` of a hospital, with traits drawn from `rng`."""
    first, second = rng.choice(len(HISTORIES), size=2, replace=False)
    return Patient(
        number=number,
        age=int(rng.integers(24, 93)),
        sex=str(rng.choice(["F", "M"])),
        heart_size=int(rng.choice(len(HEARTS), p=[0.2, 0.4, 0.25, 0.15])),
        build=int(rng.integers(len(BUILDS))),
        device=Device(rng.choice(list(Device), p=[0.4, 0.14, 0.12, 0.14, 0.1, 0.1])),
        history=(int(first), int(second)),
        anatomy=int(rng.integers(2**31)),
        severity=int(rng.choice(SEVERITIES, p=hospital.mix)),
        label_shift=int(rng.integers(1, SEVERITIES)) if rng.random() < MISLABELLED else 0,
    )


def study_severities(patient: Patient, rng: np.random.Generator) -> list[int]:
    """Visible severity of each of a patient's studies, 1 to 4 of them; the oedema comes and goes by a degree."""
    count = int(rng.choice([1, 2, 3, 4], p=[0.35, 0.35, 0.2, 0.1]))
    changes = rng.choice([-1, 0, 1], size=count, p=[0.12, 0.76, 0.12])
    return [int(value) for value in np.clip(patient.severity + changes, 0, SEVERITIES - 1)]
