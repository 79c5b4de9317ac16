"""Several models in one message: their weights as one state, each tensor named by its model and its own name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from common.errors import WireError

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]
_BETWEEN = "/"


def joined(states: Mapping[str, Mapping[str, Tensor]]) -> State:
    """One state with the tensors of all models, by the models' keys."""
    return {f"{key}{_BETWEEN}{name}": tensor for key, state in states.items() for name, tensor in state.items()}


def parted(state: Mapping[str, Tensor], keys: Collection[str]) -> dict[str, State]:
    """The states that `joined` was given.

    Raises:
        WireError: a tensor belongs to none of the models.
    """
    states: dict[str, State] = {key: {} for key in keys}
    for full, tensor in state.items():
        key, _, name = full.partition(_BETWEEN)
        # The sender chose the names: a tensor of a model that was not asked for must not be stored.
        if key not in states or not name:
            raise WireError("the message holds weights of another model than those that it names")
        states[key][name] = tensor

    return states


def joined_names(names: Collection[str], keys: Collection[str]) -> frozenset[str]:
    """Names in the joined state of tensors that each model has under `names`."""
    return frozenset(f"{key}{_BETWEEN}{name}" for key in keys for name in names)
