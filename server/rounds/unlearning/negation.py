"""NoT: the first layer's weights change their sign, and retention does the rest (Khalil et al. 2025, arXiv 2503.05657).

No hospital is asked to unlearn: the retention rounds of the campaign train on retain data alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from server.rounds.aggregation import State
from server.rounds.unlearning.base import Task

ENCODERS = ("image_encoder.", "text_encoder.")


def negate_first_layers(task: Task) -> State:
    """The parent with the first layer of each encoder negated."""
    return negated(task.parent, task.federation.downlink.frozen)


def negated(state: Mapping[str, Tensor], frozen: Collection[str] = ()) -> State:
    """`state` with the first weight matrix of each encoder negated, and its bias with it; frozen ones are passed over.

    States are in order of the layers: an image encoder begins with a convolution, a text encoder with embeddings.
    """
    names_negated = set()
    for encoder in ENCODERS:
        first = next(n for n, t in state.items() if n.startswith(encoder) and n not in frozen and t.ndim >= 2)
        names_negated |= {first, first.removesuffix("weight") + "bias"}

    return {name: -tensor if name in names_negated else tensor.clone() for name, tensor in state.items()}
