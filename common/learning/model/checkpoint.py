"""Checkpoints: safetensors for the weights, JSON for the model card, and a digest of the weights."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.disk import unwritable
from common.errors import CheckpointError
from common.files import write_text
from common.learning.model.card import ModelCard

__all__ = [
    "ModelCard",
    "State",
    "check_fit",
    "check_names",
    "check_state",
    "load_checkpoint",
    "not_finite",
    "save_checkpoint",
    "state_digest",
]

State = dict[str, Tensor]
"""Names to tensors, as of `Module.state_dict()`."""


def state_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and bytes in order of names; the same weights give the same digest."""
    total = hashlib.sha256()

    for name in sorted(state):
        # The digest is of the numbers, not of where they lie: not of the device or the strides.
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        # As bytes: numpy has no bf16.
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())

    return total.hexdigest()


def check_state(state: Mapping[str, Tensor], like: Mapping[str, Tensor], where: str) -> None:
    """Raise a `CheckpointError` unless `state` has the names and shapes of `like` and is finite throughout."""
    check_names(state, like, where)
    for name, tensor in state.items():
        check_fit(name, tensor, like[name], where)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise not_finite(name, where)


def check_names(names: Collection[str], like: Mapping[str, Tensor], where: str) -> None:
    """Raise a `CheckpointError` unless `names` are those of `like`."""
    missing = sorted(name for name in like if name not in names)
    extra = sorted(name for name in names if name not in like)
    if missing or extra:
        name = (missing or extra)[0]
        raise CheckpointError(
            f"weights of another model: {'lacks' if missing else 'has an unknown'} tensor {name}",
            where=where,
            remedy="use the config that the checkpoint was saved with",
        )


def check_fit(name: str, tensor: Tensor, like: Tensor, where: str) -> None:
    """Raise a `CheckpointError` unless `tensor` has the shape and the dtype of `like`."""
    if tensor.shape != like.shape or tensor.dtype != like.dtype:
        raise CheckpointError(
            f"{name} is {tensor.dtype} {list(tensor.shape)}, expected {like.dtype} {list(like.shape)}",
            where=where,
            remedy="use the config that the checkpoint was saved with",
        )


def not_finite(name: str, where: str) -> CheckpointError:
    """The error for a tensor that holds NaN or infinity."""
    return CheckpointError(f"{name} holds NaN or infinity", where=where, remedy="take an earlier checkpoint")


def save_checkpoint(folder: Path, state: Mapping[str, Tensor], card: ModelCard) -> str:
    """Write `model.safetensors` and `model.json` to `folder`, each whole or not at all; returns the digest.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    digest = state_digest(state)
    # Cloned: safetensors refuses tensors that share memory, as tied weights do.
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}

    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Under another name first: a process that is killed here leaves the old checkpoint whole.
        part = folder / f".model.{os.getpid()}.part"

        try:
            save_file(weights, part, metadata={"digest": digest})
            os.replace(part, folder / "model.safetensors")
        finally:
            part.unlink(missing_ok=True)

        write_text(folder / "model.json", card.model_dump_json(indent=2) + "\n")
    except (OSError, SafetensorError) as err:
        raise unwritable(err, folder, what="the checkpoint") from err

    return digest


def load_checkpoint(folder: Path, card: ModelCard | None = None) -> tuple[State, ModelCard]:
    """Read and check a checkpoint; with `card`, it must be of the same model.

    Raises:
        CheckpointError: missing, damaged, not finite, or of another config.
    """
    where = str(folder)

    try:
        saved_card = ModelCard.model_validate_json((folder / "model.json").read_bytes())
        state = load_file(folder / "model.safetensors")
        with safe_open(folder / "model.safetensors", framework="pt") as file:
            saved_digest = (file.metadata() or {}).get("digest")
    except FileNotFoundError as err:
        raise CheckpointError("no checkpoint here", where=where, remedy="check the path") from err
    except (OSError, ValidationError, SafetensorError) as err:
        raise CheckpointError("damaged checkpoint", where=where, remedy="take another copy") from err

    if card is not None and card != saved_card:
        raise CheckpointError(
            f"checkpoint of another config: {_first_difference(saved_card, card)}",
            where=where,
            remedy="use the config that the checkpoint was saved with",
        )

    if saved_digest != state_digest(state):
        raise CheckpointError("damaged checkpoint: its digest does not fit", where=where, remedy="take another copy")
    # A digest only says that the file is as it was written; NaN can be written, too.
    check_state(state, saved_card.build().state_dict(), where)

    return state, saved_card


def _first_difference(saved_card: ModelCard, own_card: ModelCard) -> str:
    actual = json.loads(saved_card.model_dump_json())
    target = json.loads(own_card.model_dump_json())

    for part in actual:
        if actual[part] == target[part]:
            continue
        if not isinstance(actual[part], dict):
            return f"{part} is {actual[part]}, expected {target[part]}"
        for key in actual[part]:
            if actual[part][key] != target[part].get(key):
                return f"{part}.{key} is {actual[part][key]}, expected {target[part].get(key)}"

    return "differs"
