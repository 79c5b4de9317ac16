"""The network of an encoder's folder, from safetensors only; no code in the folder is run."""

from __future__ import annotations

from typing import Any

from torch import nn

from common.errors import ConfigError
from common.learning.model.towers.families import FAMILIES, TIMM
from common.learning.model.towers.folder import EncoderFolder, settings_of
from common.learning.model.towers.timm_folder import load_timm


def load_network(encoder: EncoderFolder) -> nn.Module:
    """The tower with all its layers.

    Raises:
        ConfigError: the weights are damaged, lack tensors, or are of another shape.
    """
    if encoder.kind == TIMM:
        return load_timm(encoder.folder, encoder.family.partition(", ")[2])
    import transformers  # noqa: PLC0415 - seconds of import that other encoders do not need
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error  # noqa: PLC0415 - as above

    disable_progress_bar()  # type: ignore[no-untyped-call]  # one bar per model would disturb our own
    set_verbosity_error()  # type: ignore[no-untyped-call]  # a pooler that is not used would be reported each time
    family = FAMILIES[encoder.reads][encoder.kind]
    where = str(encoder.folder)
    network: Any

    try:
        network, report = getattr(transformers, family.model).from_pretrained(
            encoder.folder,
            config=settings_of(encoder.folder, encoder.reads),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **family.options,
        )
    except Exception as err:  # noqa: BLE001 - damaged weights raise errors of all kinds in transformers
        raise ConfigError(
            f"no weights of {family.name}, or damaged ({type(err).__name__})",
            where=where,
            remedy="give a local folder with config.json and model.safetensors of one model",
        ) from None

    # What is missing would be drawn at random, differently at each hospital.
    if missing := sorted(report["missing_keys"]):
        raise ConfigError(
            f"lacks {len(missing)} tensors of {family.name}, e.g. {missing[0][:80]}",
            where=where,
            remedy="copy all shards, or save the model again",
        )

    # The cache is for generating text; here it would only hold keys and values in memory.
    network.config.use_cache = False
    module: nn.Module = network

    return module
