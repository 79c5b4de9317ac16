"""EU-k: reinitialise the last k layers and train them again (Goel et al. 2022, arXiv 2201.06640, exact unlearning)."""

from __future__ import annotations

from common.learning.config import UnlearnConfig
from common.learning.device import derive_seed
from common.learning.model.blocks import last_blocks, reset
from common.learning.model.image_text import ImageTextModel
from common.learning.unlearning.base import OnPass, Unlearned, UnlearnSets, nothing
from common.learning.unlearning.compared.cf_k import named
from common.learning.unlearning.compared.fine_tune import learn_retain
from common.learning.unlearning.run import Run, adamw


def eu_k(
    model: ImageTextModel,
    sets: UnlearnSets,
    config: UnlearnConfig,
    *,
    ranking_weight: float,
    seed: int,
    on_pass: OnPass = nothing,
) -> Unlearned:
    """`L = task(retain)` over the last `eu_k.layers` blocks, from new weights; a pass walks the retain set.

    These layers then hold nothing of the forget patients; the earlier layers are unchanged.
    """
    last = last_blocks(model, config.eu_k.layers)
    # Named before the reset, so that a model whose last layers are all frozen is refused unchanged.
    optimizer = adamw(named(model, last), config)
    reset(model, last, derive_seed(seed, "reset"))
    run = Run(model, sets, config, seed, on_pass, optimizer)
    learn_retain(run, ranking_weight)

    return run.done()
