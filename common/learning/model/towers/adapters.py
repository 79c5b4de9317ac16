"""LoRA adapters on a tower (Hu et al. 2021, arXiv 2106.09685), made by `peft`, an extra.

The tower's own weights are shared by all models of a process and are no part of them. Only adapters are weights of the
model: they alone are trained, sent, aggregated and unlearned.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from common.errors import ConfigError
from common.learning.model.towers.folder import EncoderFolder
from common.learning.model.towers.frozen_tower import loaded

_ATTENTION = frozenset(
    {"query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "query_proj", "value_proj", "in_proj", "Wqkv", "qkv"}
)
"""Last part of the names of what makes queries and values, over all families."""


class AdaptedTower:
    """A tower with adapters. It is no module, so that a model that holds it does not count the tower's weights."""

    def __init__(self, encoder: EncoderFolder, rank: int, alpha: int) -> None:
        base = loaded(encoder)
        # Only what will be trained is copied: the tower's own weights are those of all models in this process.
        self.tower: Any = copy.deepcopy(base, _shared(base))
        _inject(cast(nn.Module, self.tower.network), rank, alpha, str(encoder.folder))

    @property
    def adapters(self) -> dict[str, nn.Parameter]:
        """The trained weights by name."""
        parameters = self.tower.network.named_parameters()
        # A `ParameterDict` allows no dots in its names.
        return {name.replace(".", "-"): weight for name, weight in parameters if weight.requires_grad}

    def __deepcopy__(self, memo: dict[int, Any]) -> AdaptedTower:
        memo |= _shared(self.tower)
        twin = object.__new__(AdaptedTower)
        memo[id(self)] = twin
        twin.tower = copy.deepcopy(self.tower, memo)
        return twin

    def convert(self, change: Callable[[Tensor], Tensor]) -> None:
        """Move the tower's own weights, as `Module.to` does; those of other models stay where they are."""
        for module in self.tower.modules():
            for name, weight in module._parameters.items():
                # Replaced and not changed in place: other models hold the same tensors.
                if weight is not None and not weight.requires_grad:
                    module._parameters[name] = nn.Parameter(change(weight.data), requires_grad=False)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = change(buffer)


def _shared(tower: nn.Module) -> dict[int, Any]:
    """What a copy shares with its original: all tensors that are not trained."""
    frozen_weights = [weight for weight in tower.parameters() if not weight.requires_grad]
    return {id(tensor): tensor for tensor in (*frozen_weights, *tower.buffers())}


def _inject(network: nn.Module, rank: int, alpha: int, where: str) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - an extra, and seconds of import
    except ImportError as err:
        raise ConfigError(
            "adapters need peft", where="model.adapters", remedy="pip install 'fedforget[adapters]'"
        ) from err

    targets = _targets(network)
    if not targets:
        raise ConfigError("has no layer that adapters fit", where=where, remedy="set model.adapters = 'none'")
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets, bias="none")

    with torch.no_grad():
        inject_adapter_in_model(config, network)
    # Only the adapters are trained; also norms and biases of the tower stay as they are.
    for name, weight in network.named_parameters():
        weight.requires_grad_(".lora_" in name)


def _targets(network: nn.Module) -> list[str]:
    """Queries and values of attention; without attention all linear layers, or all convolutions of a CNN."""
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    attention = [name for name in linear if name.rpartition(".")[2] in _ATTENTION]
    convolutions = [n for n, module in network.named_modules() if isinstance(module, nn.Conv2d) and module.groups == 1]

    return attention or linear or convolutions
