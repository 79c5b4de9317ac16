"""The model card of a checkpoint. Reading it needs no torch, which takes seconds to import; building the model does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import CheckpointError
from common.learning.config import DataConfig, ModelConfig
from common.learning.model.frozen import frozen_names
from common.settings import Settings

if TYPE_CHECKING:
    from common.learning.model.image_text import ImageTextModel


class ModelCard(Settings):
    """Settings that are needed to build the model of a checkpoint."""

    model: ModelConfig
    data: DataConfig
    classes: tuple[str, ...]
    vocab_size: int
    frozen: str = ""
    """Digest of the frozen layers, which each party has from its own source; empty if there are none."""
    image_encoder: str = ""
    """Digest of the image encoder's folder, which each party has from its own source; empty without a folder."""
    text_encoder: str = ""
    """Likewise of the text encoder's folder."""

    def build(self, seed: int = 0) -> ImageTextModel:
        """A freshly initialised model of this shape.

        Raises:
            CheckpointError: the frozen layers, or the folders of encoders, here differ from the federation's.
        """
        from common.learning.model.image_text import build_model  # noqa: PLC0415 - torch
        from common.learning.model.pinned_encoders import check_encoders  # noqa: PLC0415 - torch

        check_encoders(self)
        model = build_model(self.model, self.data, len(self.classes), self.vocab_size, seed)

        if self.frozen and self._digest(model) != self.frozen:
            raise CheckpointError(
                "the frozen layers here are not the federation's",
                where="model.text_folder",
                remedy="use the same pretrained model",
            )

        return model

    def pinned(self) -> ModelCard:
        """The card with the digests of the local encoders and frozen layers, and what the folders say of their inputs.

        Raises:
            ConfigError: a folder holds no encoder that fits.
        """
        card = self
        # Encoders of folders and hashed words settle what the data looks like; the others need no torch here.
        if self.model.image_encoder == "folder" or self.model.text_encoder in {"folder", "words"}:
            from common.learning.model.pinned_encoders import with_encoders  # noqa: PLC0415 - torch

            card = with_encoders(self)
        if not card.model.freezes_layers:
            return card
        return card.model_copy(update={"frozen": card._digest(card.build())})

    @property
    def encoders(self) -> tuple[str, ...]:
        """Digests of the folders that encoders come from, as instructions name them; empty without folders."""
        return tuple(digest for digest in (self.image_encoder, self.text_encoder) if digest)

    def frozen_names(self) -> frozenset[str]:
        """Names of tensors that are never sent."""
        return frozen_names(self.build().state_dict(), self.model) if self.model.freezes_layers else frozenset()

    def _digest(self, model: ImageTextModel) -> str:
        from common.learning.model.checkpoint import state_digest  # noqa: PLC0415 - torch

        state = model.state_dict()
        return state_digest({name: state[name] for name in frozen_names(state, self.model)})
