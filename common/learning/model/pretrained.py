"""Encoders from local `transformers` folders: loaded from safetensors only, and tried once.

So an unsuitable folder gives one clear line, not a traceback during training.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from common.errors import ConfigError

# Exceptions of transformers and torch for an unsuitable or damaged folder.
_UNFIT = (
    OSError, ValueError, TypeError, AttributeError, KeyError, IndexError, RuntimeError, ImportError, AssertionError,
    SafetensorError,
)  # fmt: skip

IMAGE = "transformers image"
TEXT = "BERT-like transformers"

_successes: set[tuple[str, ...]] = set()


def load_backbone(folder: Path, kind: str, **options: Any) -> nn.Module:
    """The model in a local folder; no code in the folder is run, and no pickle is read.

    Args:
        folder: with `config.json` and `model.safetensors`.
        kind: what it should be, for the message: `transformers image` or `BERT-like transformers`.
        options: of `from_pretrained`.

    Raises:
        ConfigError: the folder holds no such model.
    """
    from transformers import AutoConfig, AutoModel  # noqa: PLC0415 - seconds of import that other encoders do not need
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415 - as above

    disable_progress_bar()  # type: ignore[no-untyped-call]  # one bar per model would disturb our own
    where = str(folder)
    if not folder.is_dir():
        raise ConfigError(f"not a {kind} model: no such folder", where=where, remedy="give a local folder")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if hasattr(config, "vision_config"):
            part = "vision_model" if kind == IMAGE else "text_model"
            raise ConfigError(
                f"not a {kind} model: {config.model_type} reads images and texts",
                where=where,
                remedy=f"save its part: AutoModel.from_pretrained(folder).{part}.save_pretrained(new_folder)",
            )

        backbone: nn.Module = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, **options
        )
    except ImportError as err:
        needs = "timm" if "timm" in str(err) else "another library"
        raise ConfigError(
            f"not a {kind} model: it needs {needs}",
            where=where,
            remedy="give a folder that transformers reads alone, e.g. of ViT, DINOv2 or ConvNeXt"
            if kind == IMAGE
            else "give a folder of a BERT, e.g. SciBERT",
        ) from err
    except _UNFIT as err:
        raise ConfigError(
            f"not a {kind} model, or damaged",
            where=where,
            remedy="give a local folder with config.json and model.safetensors",
        ) from err

    return backbone


def try_once(
    encoder: nn.Module, inputs: Callable[[], tuple[Tensor, ...]], key: tuple[str, ...], error: ConfigError
) -> None:
    """Run an encoder on one made-up input, once for each `key` in a process; raises `error` if it cannot."""
    if key in _successes:
        return
    training = encoder.training
    encoder.eval()

    try:
        with torch.no_grad():
            encoder(*inputs())
    except _UNFIT as err:
        raise error from err
    finally:
        encoder.train(training)

    _successes.add(key)
