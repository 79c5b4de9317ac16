"""Weights that a campaign keeps between two steps: files of safetensors, each whole or not there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.disk import unwritable
from common.errors import CheckpointError
from common.learning.model.checkpoint import state_digest


def read_weights(path: Path, digest: str) -> dict[str, Tensor]:
    """Weights of a step, as they were written.

    Raises:
        CheckpointError: lost, damaged, or other than `digest` says.
    """
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as err:
        raise CheckpointError("weights are lost or damaged", where=str(path)) from err

    if state_digest(weights) != digest:
        raise CheckpointError("weights differ from their digest", where=str(path))
    return weights


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> str:
    """Write the weights of a step durably; returns their digest.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    # Written beside it and renamed: the journal's row may only name a file that is whole.
    part = path.with_suffix(".part")

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, part)
        # The row that names this file is durable as soon as it is committed; the file must be so before.
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, SafetensorError) as err:
        part.unlink(missing_ok=True)
        raise unwritable(err, path.parent, what="weights") from err

    return state_digest(weights)
