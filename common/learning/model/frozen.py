"""Layers that are never trained: all parties have them from the same source, and they are never sent."""

from __future__ import annotations

import re
from collections.abc import Iterable

from common.learning.config import ModelConfig

_LAYER = re.compile(r"text_encoder\.bert\.encoder\.layer\.(\d+)\.")
_EMBEDDINGS = "text_encoder.bert.embeddings."


def frozen_names(names: Iterable[str], config: ModelConfig) -> frozenset[str]:
    """Those of a model's tensors that `config.frozen_text_layers` freezes: the embeddings and the first layers."""
    first = config.frozen_text_layers
    return frozenset(name for name in names if first and _is_below(name, first))


def _is_below(name: str, first: int) -> bool:
    match = _LAYER.match(name)
    return name.startswith(_EMBEDDINGS) or (match is not None and int(match[1]) < first)
