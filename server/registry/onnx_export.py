"""`model.onnx` of an exported version, by torch's exporter; needs the extra `onnx`."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from pathlib import Path

from common.errors import ConfigError, RefusedError
from common.learning.model.card import ModelCard
from server.registry.preprocess import stands_alone

ONNX_FILE = "model.onnx"


def check_onnx(card: ModelCard) -> None:
    """Refuse before anything is written.

    Raises:
        ConfigError: the extra is not installed.
        RefusedError: the version is built on encoders of folders.
    """
    if importlib.util.find_spec("onnxscript") is None or importlib.util.find_spec("onnx") is None:
        raise ConfigError("ONNX is not installed", where="--onnx", remedy="pip install 'fedforget[onnx]'")
    if not stands_alone(card):
        raise RefusedError("a version with encoders of folders is not exported to ONNX")


def write_onnx(folder: Path, card: ModelCard) -> None:
    """Add `model.onnx` to an exported folder: inputs and outputs as in `preprocess.json`, any batch.

    Raises:
        OSError: it cannot be written.
    """
    import torch  # noqa: PLC0415 - for this file alone
    from safetensors.torch import load_file  # noqa: PLC0415

    from server.registry.export_files.network import Network  # noqa: PLC0415

    network = Network(load_file(folder / "model.safetensors"), json.loads((folder / "model.json").read_text())["model"])

    class Exported(torch.nn.Module):
        def forward(self, images: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return network.logits(images, tokens, mask)

    size = card.data.image_size
    length = card.data.max_tokens
    # Two rows: a batch of one would become a constant.
    example = (torch.zeros(2, 1, size, size), torch.zeros(2, length).long(), torch.ones(2, length).long())
    batch = torch.export.Dim("batch")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Exported().eval(),
            example,
            dynamo=True,
            verbose=False,
            input_names=["images", "tokens", "mask"],
            output_names=["logits"],
            dynamic_shapes=({0: batch}, {0: batch}, {0: batch}),
        )
    if program is None:
        raise OSError("torch exported nothing")
    program.save(str(folder / ONNX_FILE), external_data=False)
