"""CF-k: fine-tune the last k layers alone, for catastrophic forgetting (Goel et al. 2022, arXiv 2201.06640)."""

from __future__ import annotations

from torch import nn

from common.errors import ConfigError
from common.learning.config import UnlearnConfig
from common.learning.model.blocks import last_blocks
from common.learning.model.image_text import ImageTextModel
from common.learning.unlearning.base import OnPass, Unlearned, UnlearnSets, nothing
from common.learning.unlearning.compared.fine_tune import learn_retain
from common.learning.unlearning.run import Run, adamw


def cf_k(
    model: ImageTextModel,
    sets: UnlearnSets,
    config: UnlearnConfig,
    *,
    ranking_weight: float,
    seed: int,
    on_pass: OnPass = nothing,
) -> Unlearned:
    """`L = task(retain)` over the weights of the last `cf_k.layers` blocks; a pass walks the retain set.

    The earlier layers keep what they learned from the forget patients.
    """
    last = last_blocks(model, config.cf_k.layers)
    run = Run(model, sets, config, seed, on_pass, adamw(named(model, last), config))
    learn_retain(run, ranking_weight)

    return run.done()


def named(model: ImageTextModel, names: frozenset[str]) -> list[nn.Parameter]:
    """The weights in `names` that are not frozen.

    Raises:
        ConfigError: all of them are frozen.
    """
    weights = [p for name, p in model.named_parameters() if name in names and p.requires_grad]
    if not weights:
        raise ConfigError("the last layers are all frozen", where="unlearn", remedy="raise the number of layers")
    return weights
