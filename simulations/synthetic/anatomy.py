"""A chest radiograph drawn from a patient's anatomy, 0 black to 1 white; no real patient is in it.

Coordinates run from -1 to 1, x to the right of the image (the patient's left) and y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import cos, sin
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from simulations.synthetic.patients import SEVERITIES, Device, Hospital, Patient

Image = NDArray[Any]
"""Grey values, float32 `[size, size]`."""
HEART_WIDTHS = (0.23, 0.29, 0.36, 0.44)
LUNG_WIDTHS = (0.25, 0.29, 0.33, 0.31)
LUNG_HEIGHTS = (0.72, 0.66, 0.62, 0.76)
BODY_WIDTHS = (0.78, 0.88, 0.99, 0.92)
HILA = ((-0.2, -0.08), (0.21, -0.12))


@dataclass(frozen=True, slots=True)
class Grid:
    """Coordinates of every pixel, each `[size, size]`, and the side of a pixel."""

    x: Image
    y: Image
    pixel: float


def draw_radiograph(patient: Patient, severity: int, hospital: Hospital, size: int, rng: np.random.Generator) -> Image:
    """Draw one study, `[size, size]` in 0 to 1; the patient's anatomy is the same each time, the posture is not."""
    grid = _posed_grid(size, rng)
    # Anatomy has a generator of its own, begun anew in each study; `rng` draws posture and noise.
    own = np.random.default_rng(patient.anatomy)
    amount = float(np.clip(severity / (SEVERITIES - 1) + rng.normal(0.0, 0.06), 0.0, 1.05))
    image = _body(grid, patient)
    lungs = _lungs(grid, patient, own)
    # Lungs take brightness away, and each structure on the way of the rays gives some of it back.
    image -= 0.44 * lungs
    image += lungs * (_vessels(grid, amount, own) + _haze(grid, amount, rng))
    image += _ribs(grid, patient, own) * (0.25 + 0.75 * lungs)
    image += _centre(grid, patient, own) * (0.55 + 0.6 * lungs)
    image += (0.44 - 0.12 * amount) * lungs * _effusion(grid, patient, amount, own)
    image += _collar_bones(grid, own)
    # Metal covers whatever lies behind it.
    image = np.maximum(_film(image), _device(grid, patient.device, own))

    return _scanned(_framed(image, hospital, size), hospital, rng)


def _grid(size: int) -> Grid:
    # Half the time of double precision, and 12 bits are stored.
    line = ((np.arange(size) + 0.5) / size * 2.0 - 1.0).astype(np.float32)
    x, y = np.meshgrid(line, line)
    return Grid(x, y, 2.0 / size)


def _posed_grid(size: int, rng: np.random.Generator) -> Grid:
    flat = _grid(size)
    turn = rng.normal(0.0, 0.025)
    scale = 1.0 + rng.normal(0.0, 0.025)
    dx = rng.normal(0.0, 0.02)
    dy = rng.normal(0.0, 0.02)

    return Grid(scale * (flat.x + turn * flat.y) + dx, scale * (flat.y - turn * flat.x) + dy, flat.pixel)


def _inside(distance: Image, softness: float) -> Image:
    """1 where a signed distance is negative, 0 where it is positive, with an edge of this softness."""
    # Clipped: `exp` of a pixel far outside would overflow.
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(distance / softness, -40.0, 40.0))))


def _ellipse(grid: Grid, x: float, y: float, width: float, height: float, softness: float = 0.02) -> Image:
    radius = np.hypot((grid.x - x) / width, (grid.y - y) / height)
    return _inside((radius - 1.0) * min(width, height), softness)


def _tube(grid: Grid, start: tuple[float, float], end: tuple[float, float], radius: float) -> Image:
    """A line with a soft profile; one thinner than a pixel fades instead of vanishing between pixels."""
    dx = end[0] - start[0]
    dy = end[1] - start[1]
    along = np.clip(((grid.x - start[0]) * dx + (grid.y - start[1]) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
    square = (grid.x - start[0] - along * dx) ** 2 + (grid.y - start[1] - along * dy) ** 2
    width = max(radius, 0.6 * grid.pixel)

    return np.asarray(radius / width * np.exp(-square / (2.0 * width * width)))


def _body(grid: Grid, patient: Patient) -> Image:
    width = BODY_WIDTHS[patient.build]
    trunk = _inside(np.abs(grid.x) - width * (0.86 + 0.1 * grid.y), 0.03) * _inside(-0.62 - grid.y, 0.06)
    shoulders = _ellipse(grid, 0.0, -0.2, 1.15 * width, 0.62, 0.04) * _inside(grid.y + 0.1, 0.05)
    neck = _inside(np.abs(grid.x) - 0.2, 0.04) * _inside(grid.y + 0.5, 0.05)

    return np.asarray(0.03 + 0.53 * np.maximum(np.maximum(trunk, shoulders), neck))


def _domes(grid: Grid, patient: Patient) -> Image:
    """How far below the diaphragm a pixel lies; the right dome is the higher one."""
    centre = 0.42 * BODY_WIDTHS[patient.build]
    offset = np.abs(grid.x) - centre
    top = 0.84 * LUNG_HEIGHTS[patient.build] - 0.06 + np.where(grid.x < 0, np.float32(-0.04), np.float32(0.02))

    return np.asarray(grid.y - top - 1.1 * offset * offset)


def _lungs(grid: Grid, patient: Patient, own: np.random.Generator) -> Image:
    width = LUNG_WIDTHS[patient.build]
    height = LUNG_HEIGHTS[patient.build]
    tilt = 0.09 + own.uniform(-0.02, 0.02)
    lungs = np.zeros_like(grid.x)

    for side in (-1.0, 1.0):
        x = side * (0.42 * BODY_WIDTHS[patient.build] + own.uniform(-0.02, 0.02))
        leaning = Grid(grid.x - side * tilt * grid.y, grid.y, grid.pixel)
        # A fourth power gives the flat walls and rounded apices of a lung.
        radius = (np.abs((leaning.x - x) / width) ** 2.6 + np.abs((grid.y + 0.02) / height) ** 2.6) ** (1 / 2.6)
        lungs = np.maximum(lungs, _inside((radius - 1.0) * width, 0.014))

    return np.asarray(lungs * _inside(_domes(grid, patient), 0.012))


def _vessels(grid: Grid, amount: float, own: np.random.Generator) -> Image:
    """Forking, tapering vessels from both hila; oedema thickens them, those to the apices most (cephalisation)."""
    image = np.zeros_like(grid.x)

    for side, (x, y) in zip((-1.0, 1.0), HILA, strict=True):
        hilum = _ellipse(grid, x, y, 0.055, 0.13, 0.04)
        image = np.maximum(image, 0.13 * hilum)

        for angle in (np.linspace(-1.3, 1.3, 8) + own.normal(0.0, 0.09, size=8)).tolist():
            swell = 1.0 + amount * (1.2 if angle < 0 else 0.5)
            # Vessels leave along the hilum, not from one point.
            start = (x, y + 0.07 * sin(angle))
            middle = _towards(start, angle, side, own.uniform(0.16, 0.24))
            image = np.maximum(image, 0.13 * _tube(grid, start, middle, 0.014 * swell))

            for turn in (own.uniform(-0.5, -0.15), own.uniform(0.15, 0.5)):
                end = _towards(middle, angle + turn, side, own.uniform(0.16, 0.28))
                image = np.maximum(image, 0.085 * _tube(grid, middle, end, 0.007 * swell))
                tip = _towards(end, angle + turn + own.normal(0.0, 0.3), side, own.uniform(0.1, 0.2))
                image = np.maximum(image, 0.05 * _tube(grid, end, tip, 0.005 * swell))

    return image * (1.0 + 0.3 * amount)


def _towards(start: tuple[float, float], angle: float, side: float, length: float) -> tuple[float, float]:
    return start[0] + side * length * cos(angle), start[1] + 1.15 * length * sin(angle)


def _haze(grid: Grid, amount: float, rng: np.random.Generator) -> Image:
    """Patchy perihilar haze, and from the middle degree on short septal lines at the outer bases (Kerley B)."""
    patches = gaussian_filter(rng.standard_normal(grid.x.shape, dtype=np.float32), 0.05 / grid.pixel)
    # Smoothing shrinks the variance by an amount that depends on the size of the image.
    patches /= patches.std()
    spread = 0.16 + 0.16 * amount
    wings = sum(np.exp(-((grid.x - 1.5 * x) ** 2 + (grid.y - y - 0.1) ** 2) / (2 * spread**2)) for x, y in HILA)
    haze = amount * (0.24 * wings * (1.0 + 0.4 * patches) + 0.07)

    if amount > 0.5:
        for side in (-1.0, 1.0):
            for y in (np.arange(0.14, 0.44, 0.06) + rng.normal(0.0, 0.01)).tolist():
                haze += 0.1 * _tube(grid, (side * 0.56, y), (side * 0.7, y + 0.01), 0.007)

    return np.asarray(haze)


def _ribs(grid: Grid, patient: Patient, own: np.random.Generator) -> Image:
    """Posterior ribs falling outwards, and fainter anterior ones falling inwards."""
    pitch = own.uniform(0.155, 0.185)
    phase = own.uniform(0.0, 1.0)
    side = np.abs(grid.x)
    thorax = _inside(side - 0.84 * BODY_WIDTHS[patient.build], 0.03) * _inside(np.abs(grid.y + 0.05) - 0.72, 0.04)
    posterior = np.cos(2 * np.pi * ((grid.y - 0.55 * side + 0.75 * side**2) / pitch + phase))
    anterior = np.cos(2 * np.pi * ((grid.y + 0.5 * side) / (1.15 * pitch) + 2 * phase))
    outer = _inside(0.35 - side, 0.06)
    bands = 0.085 * _inside(0.45 - posterior, 0.12) + 0.035 * _inside(0.5 - anterior, 0.15) * outer

    return np.asarray(thorax * _inside(0.1 - side, 0.02) * bands)


def _centre(grid: Grid, patient: Patient, own: np.random.Generator) -> Image:
    """Heart, mediastinum with aortic arch, spine, and the dark windpipe."""
    width = HEART_WIDTHS[patient.heart_size] + own.uniform(-0.015, 0.015)
    lean = own.uniform(0.3, 0.45)
    leaning = Grid(grid.x - lean * (grid.y - 0.25), grid.y, grid.pixel)
    heart = _ellipse(leaning, 0.4 * width, 0.25, width, 0.24 + 0.35 * width, 0.016)
    arch = _ellipse(grid, 0.11, -0.3, 0.09, 0.1, 0.014)
    strip = _inside(np.abs(grid.x) - 0.13 - 0.03 * own.random(), 0.025) * _inside(-0.75 - grid.y, 0.05)
    spine = _inside(np.abs(grid.x - 0.03 * own.normal() * np.sin(2 * grid.y)) - 0.075, 0.012)
    vertebrae = 0.06 + 0.025 * np.cos(2 * np.pi * grid.y / 0.13)
    windpipe = _inside(np.abs(grid.x + 0.01) - 0.035, 0.012) * _inside(grid.y + 0.3, 0.03)
    soft = np.maximum(np.maximum(0.34 * heart, 0.26 * arch), 0.2 * strip)
    inside = _inside(np.abs(grid.y) - 1.2, 0.05)

    return np.asarray(inside * (soft + spine * vertebrae - 0.12 * windpipe))


def _effusion(grid: Grid, patient: Patient, amount: float, own: np.random.Generator) -> Image:
    """Fluid at the bases, higher at the walls: a meniscus."""
    depth = np.where(grid.x < 0, np.float32(0.22), np.float32(0.16)) + 0.05 * own.uniform(-1, 1)
    level = 0.06 - depth * max(amount - 0.45, 0.0) * 1.8 - 0.7 * max(amount - 0.5, 0.0) * np.abs(grid.x) ** 3
    return _inside(level - _domes(grid, patient), 0.02)


def _collar_bones(grid: Grid, own: np.random.Generator) -> Image:
    drop = own.uniform(0.06, 0.16)
    image = np.zeros_like(grid.x)
    for side in (-1.0, 1.0):
        elbow = (side * 0.38, -0.56 - 0.4 * drop)
        image += _tube(grid, (side * 0.09, -0.5), elbow, 0.026) + _tube(grid, elbow, (side * 0.78, -0.58 - drop), 0.022)

    return 0.13 * np.minimum(image, 1.0)


def _device(grid: Grid, device: Device, own: np.random.Generator) -> Image:
    dx = own.uniform(-0.05, 0.05)
    dy = own.uniform(-0.05, 0.05)
    image = np.zeros_like(grid.x)

    if device is Device.PACEMAKER:
        image = np.maximum(image, _ellipse(grid, 0.52 + dx, -0.42 + dy, 0.13, 0.1, 0.008))
        path = [(0.45 + dx, -0.4 + dy), (0.2, -0.5), (-0.08, -0.3), (-0.1, 0.1), (0.2 + dx, 0.38 + dy)]
        for start, end in pairwise(path):
            image = np.maximum(image, 0.9 * _tube(grid, start, end, 0.01))
    elif device is Device.PORT:
        ring = np.abs(np.hypot(grid.x + 0.5 + dx, grid.y + 0.36 + dy) - 0.06)
        image = _inside(ring - 0.022, 0.006)
        path = [(-0.46 - dx, -0.41 - dy), (-0.25, -0.6), (-0.08, -0.35), (-0.09, 0.0)]
        for start, end in pairwise(path):
            image = np.maximum(image, 0.85 * _tube(grid, start, end, 0.01))
    elif device is Device.WIRES:
        for y in (np.linspace(-0.38, 0.4, 6) + dy).tolist():
            ring = np.abs(np.hypot((grid.x - 0.4 * dx) / 1.6, grid.y - y) - 0.03)
            image = np.maximum(image, _inside(ring - 0.006, 0.005))
    elif device is Device.RODS:
        for x in (-0.06, 0.06):
            image = np.maximum(image, _tube(grid, (x + 0.3 * dx, -0.3 + dy), (x + 0.3 * dx, 0.6 + dy), 0.014))
            for y in (np.linspace(-0.25, 0.55, 6) + dy).tolist():
                image = np.maximum(image, _ellipse(grid, x + 0.3 * dx, y, 0.035, 0.016, 0.006))
    elif device is Device.VALVE:
        ring = np.abs(np.hypot((grid.x - 0.12 - dx) / 1.25, grid.y - 0.2 - dy) - 0.065)
        image = _inside(ring - 0.013, 0.006)

    return np.asarray(0.99 * image)


def _film(image: Image) -> Image:
    """Dense parts on top of one another saturate softly, as on film."""
    knee = 0.6
    room = 0.3
    return np.asarray(np.where(image < knee, np.maximum(image, 0.0), knee + room * np.tanh((image - knee) / room)))


def _framed(image: Image, hospital: Hospital, size: int) -> Image:
    """The side marker, a lead L beside the patient's left shoulder, and the collimated, unexposed rim."""
    grid = _grid(size)
    x, y = hospital.marker
    letter = np.maximum(
        _tube(grid, (x, y), (x, y + 0.09), 0.012), _tube(grid, (x, y + 0.09), (x + 0.05, y + 0.09), 0.012)
    )
    edge = 1.0 - hospital.rim
    open_field = _inside(np.abs(grid.x) - edge, 0.006) * _inside(np.abs(grid.y) - edge, 0.006)

    return np.asarray(open_field * np.maximum(image, 0.95 * np.minimum(letter, 1.0)))


def _scanned(image: Image, hospital: Hospital, rng: np.random.Generator) -> Image:
    # Blur before gamma and noise, as a scanner's optics come before its electronics.
    smooth = gaussian_filter(np.clip(image, 0.0, 1.0), hospital.blur * image.shape[0])
    noisy = smooth**hospital.gamma + hospital.noise * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.clip(noisy, 0.0, 1.0))
