"""Folders of timm, an extra: `config.json` names the architecture and how pixels are normalised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from common.errors import ConfigError
from common.learning.model.towers.preprocessing import Pixels


def architecture(raw: dict[str, Any], where: str) -> str:
    """The architecture's name."""
    name = raw.get("architecture")
    # timm loads by this name, so it may hold nothing but a name: no address and no path.
    if not isinstance(name, str) or not name.replace("_", "").replace(".", "").isalnum() or len(name) > 80:
        raise ConfigError("config.json: architecture is not a name of timm", where=where, remedy="correct it")
    return name


def timm_pixels(raw: dict[str, Any], where: str) -> tuple[Pixels, int]:
    """Normalisation, and the number of channels."""
    values = raw.get("pretrained_cfg")
    shape = values.get("input_size") if isinstance(values, dict) else None
    if not isinstance(values, dict) or not isinstance(shape, list | tuple) or len(shape) != 3:
        raise ConfigError("config.json: pretrained_cfg without input_size", where=where, remedy="take it from timm")

    channels, height, width = shape
    mean = tuple(float(value) for value in values.get("mean") or ())
    std = tuple(float(value) for value in values.get("std") or ())
    is_square = isinstance(height, int) and height == width and 16 <= height <= 4096
    if not is_square or len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise ConfigError(
            "config.json: pretrained_cfg must give a square input_size, and mean and std of each channel",
            where=where,
            remedy="take it from timm",
        )

    return Pixels(height, 1.0, mean, std), channels


def load_timm(folder: Path, name: str) -> nn.Module:
    """The network without its classifier, which gives one row of features an image.

    Raises:
        ConfigError: timm is not installed, or the weights are of another network.
    """
    where = str(folder)
    try:
        import timm  # noqa: PLC0415 - an extra
        from safetensors.torch import load_file  # noqa: PLC0415 - only with it
    except ImportError as err:
        raise ConfigError("a folder of timm", where=where, remedy="pip install 'fedforget[timm]'") from err

    try:
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
        weights = load_file(folder / "model.safetensors")
        missing = network.load_state_dict(weights, strict=False).missing_keys
    except Exception as err:  # noqa: BLE001 - each architecture has errors of its own for weights that do not fit
        raise ConfigError(
            f"no weights of {name} ({type(err).__name__})", where=where, remedy="take the folder from timm again"
        ) from None

    if missing:
        raise ConfigError(f"lacks {len(missing)} tensors of {name}", where=where, remedy="take the folder again")
    return network
