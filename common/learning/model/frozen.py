"""Layers that are never trained: all parties have them from the same source, and they are never sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from common.learning.config import ModelConfig

_LAYER = re.compile(r"text_encoder\.bert\.encoder\.layer\.(\d+)\.")
_EMBEDDINGS = "text_encoder.bert.embeddings."
_NUMBERED = re.compile(r".*?\.\d+(?=\.)")
_TOWERS = ("image_encoder.tower.", "text_encoder.tower.")


def frozen_names(names: Iterable[str], config: ModelConfig) -> frozenset[str]:
    """Those of a model's tensors that its settings freeze: the first layers of each encoder, and all before them.

    `names` are in the model's own order.
    """
    if not config.freezes_layers:
        return frozenset()
    ordered = tuple(names)
    bert = (name for name in ordered if _is_below(name, config.frozen_text_layers))
    layers = (config.frozen_image_layers, config.frozen_text_layers)
    towers = (
        name
        for prefix, count in zip(_TOWERS, layers, strict=True)
        for name in first_layers([name for name in ordered if name.startswith(prefix)], count)
    )

    return frozenset({*bert, *towers})


def layers_of(names: Iterable[str]) -> tuple[str, ...]:
    """The layers of an encoder in their order: its outermost numbered modules, such as `encoder.layer.0`."""
    numbered = (_NUMBERED.match(name) for name in names)
    return tuple(dict.fromkeys(match[0] for match in numbered if match))


def first_layers(names: Sequence[str], count: int) -> tuple[str, ...]:
    """An encoder's tensors up to the end of layer `count`: what reads the input comes before its layers."""
    if not count:
        return ()
    last = layers_of(names)[:count][-1:]
    ends = [place for place, name in enumerate(names) if name.startswith(tuple(f"{layer}." for layer in last))]

    return tuple(names[: ends[-1] + 1]) if ends else ()


def _is_below(name: str, first: int) -> bool:
    match = _LAYER.match(name)
    return first > 0 and (name.startswith(_EMBEDDINGS) or (match is not None and int(match[1]) < first))
