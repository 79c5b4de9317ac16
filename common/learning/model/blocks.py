"""The model's layers in order of their distance from the output, for methods that change the last ones."""

from __future__ import annotations

import re

import torch
from torch import nn

from common.learning.model.image_text import ImageTextModel

_NUMBERED = re.compile(r"(image_encoder\.stages|text_encoder\.bert\.encoder\.layer)\.(\d+)\.")
_PROJECTIONS = 3


def last_blocks(model: ImageTextModel, count: int) -> frozenset[str]:
    """Names of the weights in the last `count` blocks; all of them if the model has fewer.

    Block 1 holds the classifiers, 2 the fusion gate, 3 the encoders' projections, each further one the next layer of
    every encoder. What has no number, as embeddings and backbones of other make, is the first layer and the last block.
    """
    names = [name for name, _ in model.named_parameters()]
    numbers: dict[str, set[int]] = {}
    for name in names:
        if match := _NUMBERED.match(name):
            numbers.setdefault(match[1], set()).add(int(match[2]))

    order = {kind: sorted(there, reverse=True) for kind, there in numbers.items()}
    first = _PROJECTIONS + max(map(len, order.values()), default=0) + 1

    return frozenset(name for name in names if _block(name, order, first) <= count)


def _block(name: str, order: dict[str, list[int]], first: int) -> int:
    if name.startswith("classifiers."):
        return 1
    if name.startswith("fusion."):
        return 2
    if ".project." in name:
        return _PROJECTIONS
    match = _NUMBERED.match(name)

    return _PROJECTIONS + 1 + order[match[1]].index(int(match[2])) if match else first


def reset(model: nn.Module, names: frozenset[str], seed: int) -> None:
    """Draw the weights in `names` anew, by each layer's own default; frozen ones stay. The same seed, the same weights.

    A layer is drawn as a whole.
    """
    device = next(model.parameters()).device

    # `reset_parameters` draws from torch's global state, which must be the caller's again afterwards.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for prefix, module in model.named_modules():
            own = {
                f"{prefix}.{name}".lstrip(".") for name, p in module.named_parameters(recurse=False) if p.requires_grad
            }
            draw = getattr(module, "reset_parameters", None)
            if own & names and callable(draw):
                draw()
