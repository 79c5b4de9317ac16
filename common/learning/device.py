"""The device for tensors, and seeds for random numbers on it."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext

import torch

from common.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """Pick a device; `auto` is the GPU if there is one, otherwise the CPU.

    Raises:
        ConfigError: the device is unknown or not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"unknown device {name!r}", where="device", remedy="use auto, cpu or cuda") from None

    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device available", where="device", remedy="use device = auto or cpu")
    return device


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """bf16 autocast on a GPU, nothing on a CPU."""
    # bf16 has the range of float32, so gradients need no loss scaling as with fp16.
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.type == "cuda" else nullcontext()


def derive_seed(*parts: object) -> int:
    """A 63-bit seed for a purpose, e.g. `derive_seed(seed, "train", site, round)`; equal on every machine."""
    # Not `hash`, which Python salts anew in each process. 63 bits fit a signed integer.
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big") >> 1
