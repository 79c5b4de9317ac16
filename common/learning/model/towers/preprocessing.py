"""How an encoder wants its pixels: side, scale, mean and standard deviation, from `preprocessor_config.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from common.learning.model.towers.files import read_json

FILES = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True, slots=True)
class Pixels:
    """Pixels in [0, 1] become `(pixel * scale - mean) / std` in each channel.

    Attributes:
        size: side of the square image, None if the folder does not say.
        scale: 1 for pixels in [0, 1], 255 for those in [0, 255].
        mean: of each channel.
        std: of each channel.
    """

    size: int | None
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_pixels(folder: Path, channels: int) -> Pixels:
    """What the folder's image processor does to pixels.

    The whole radiograph is fitted to a square, with black borders. Nothing is cropped, whatever the processor does.

    Raises:
        ConfigError: the folder does not say how pixels are normalised, or says so in a form that is not known.
    """
    for name in FILES:
        values = read_json(folder / name)
        if name == "processor_config.json":
            values = values.get("image_processor") or {}
        if values:
            return _understood(values, channels, str(folder / name))

    raise ConfigError(
        "no preprocessor_config.json: how pixels are normalised is not known",
        where=str(folder),
        remedy="take this file from where the model comes from",
    )


def _understood(values: Mapping[str, Any], channels: int, where: str) -> Pixels:
    # Pixels come in [0, 1]; the factor is meant for those in [0, 255].
    scale = 255.0 * _number(values, "rescale_factor", 1 / 255, where) if values.get("do_rescale", True) else 255.0
    mean = (0.0,) * channels
    std = (1.0,) * channels

    if values.get("rescale_offset"):
        raise ConfigError("rescale_offset is not known here", where=where, remedy="give image_mean and image_std")
    if values.get("do_normalize", "image_mean" in values):
        mean = _per_channel(values, "image_mean", channels, where)
        std = _per_channel(values, "image_std", channels, where)
        if values.get("include_top"):  # of EfficientNet: divided twice
            std = tuple(value * value for value in std)

    if not all(value > 0 for value in std):
        raise ConfigError("image_std: must be above 0", where=where, remedy="correct the file")

    return Pixels(_side(values, where), scale, mean, std)


def _side(values: Mapping[str, Any], where: str) -> int | None:
    """Side after cropping, or after resizing if nothing is cropped."""
    value = values.get("crop_size") if values.get("do_center_crop") else None
    value = value or values.get("size")
    if isinstance(value, Mapping):
        sides = {value[name] for name in ("height", "width", "shortest_edge") if value.get(name)}
    else:
        sides = {value} if value else set()

    if not sides:
        return None
    side = sides.pop()
    # More than one side left is a rectangle.
    if sides or not isinstance(side, int) or not 16 <= side <= 4096:
        raise ConfigError("size: not a square of 16 to 4096 pixels", where=where, remedy="give another encoder")

    return side


def _per_channel(values: Mapping[str, Any], name: str, channels: int, where: str) -> tuple[float, ...]:
    value = values.get(name)
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    if len(numbers) == 1:
        numbers = numbers * channels
    if len(numbers) != channels or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        raise ConfigError(f"{name}: one number for each of {channels} channels", where=where, remedy="correct the file")

    return tuple(float(number) for number in numbers if number is not None)


def _number(values: Mapping[str, Any], name: str, default: float, where: str) -> float:
    value = values.get(name, default)
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ConfigError(f"{name}: must be a number above 0", where=where, remedy="correct the file")
    return float(value)
