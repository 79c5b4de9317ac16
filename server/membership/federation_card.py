"""The model card of the federation, as `server.toml` describes it."""

from __future__ import annotations

from common.errors import ConfigError
from common.learning.data.tokenizer import load_tokenizer
from common.learning.model.card import ModelCard
from server.settings import ServerSettings

_DIGESTS = ("frozen", "image_encoder", "text_encoder")


def federation_card(settings: ServerSettings, where: str) -> ModelCard:
    """The card with the digests of encoders and frozen layers. Takes torch only where there are such.

    Args:
        settings: the coordinator's.
        where: their file, for errors.

    Raises:
        ConfigError: `server.toml` names no classes, or a folder that holds no encoder that fits.
    """
    if len(settings.classes) < 2:
        raise ConfigError("classes: at least two labels", where=where, remedy='as ["no", "yes"]')
    data = settings.experiment.data

    return ModelCard(
        model=settings.experiment.model,
        data=data,
        classes=settings.classes,
        vocab_size=load_tokenizer(data.tokenizer, data.max_tokens).vocab_size,
    ).pinned()


def card_json(card: ModelCard) -> str:
    """For a join bundle; digests that are empty are left out, as earlier versions of a hospital do not know them."""
    return card.model_dump_json(indent=2, exclude={name for name in _DIGESTS if not getattr(card, name)})
