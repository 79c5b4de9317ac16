"""Encoders of folders in a model card: their digests, and what they say about images and reports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from common.errors import CheckpointError, ConfigError
from common.learning.config import DataConfig
from common.learning.data.embedding_cache import embeddings_beside
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.study_embeddings import StudyEmbeddings
from common.learning.data.tokenizer import Tokenizer, load_tokenizer
from common.learning.data.vocabulary import BUILTIN, WORDS
from common.learning.model.towers.families import TEXT, Reads
from common.learning.model.towers.folder import EncoderFolder, read_folder
from common.learning.model.towers.frozen_tower import FrozenTower, loaded

if TYPE_CHECKING:
    from common.learning.model.card import ModelCard


def encoder_folders(card: ModelCard) -> dict[Reads, EncoderFolder]:
    """The encoders that the card takes from folders.

    Raises:
        ConfigError: a folder holds no encoder that is known.
    """
    model = card.model
    folders: dict[Reads, EncoderFolder] = {}
    if model.image_encoder == "folder":
        folders["image"] = read_folder(Path(model.image_folder), "image")
    if model.text_encoder == "folder":
        folders["text"] = read_folder(Path(model.text_folder), "text")
    return folders


def with_encoders(card: ModelCard) -> ModelCard:
    """The card with the digest of each encoder's folder, its image size, its tokenizer and the length that it reads.

    Each encoder runs once on an empty image or report, so that what does not fit is refused before anything is trained.

    Raises:
        ConfigError: a folder holds no encoder that fits.
    """
    folders = encoder_folders(card)
    if card.model.text_encoder == "words":
        data = card.data.model_copy(update={"tokenizer": WORDS})
        card = card.model_copy(update={"data": data, "vocab_size": load_tokenizer(WORDS, data.max_tokens).vocab_size})
    if not folders:
        return card
    data = card.data
    vocabulary = card.vocab_size

    if image := folders.get("image"):
        data = data.model_copy(update={"image_size": image.size})
    if text := folders.get("text"):
        data = text_settings(data, text)
        vocabulary = load_tokenizer(data.tokenizer, data.max_tokens).vocab_size
        # A token beyond the embedding's rows would fail only where it first occurs, in the middle of training.
        if vocabulary > text.vocabulary:
            raise ConfigError(
                f"the encoder knows {text.vocabulary} tokens, the tokenizer gives {vocabulary}",
                where=str(text.folder),
                remedy="take config.json, tokenizer and weights from one model",
            )

    for encoder in folders.values():
        try_tower(encoder, data)

    return card.model_copy(
        update={
            "data": data,
            "vocab_size": vocabulary,
            "image_encoder": image.digest if image else "",
            "text_encoder": text.digest if text else "",
        }
    )


def check_encoders(card: ModelCard) -> None:
    """Raise a `CheckpointError` if a folder here holds another encoder than the card pins."""
    for reads, encoder in encoder_folders(card).items():
        digest = {"image": card.image_encoder, "text": card.text_encoder}[reads]
        if digest and encoder.digest != digest:
            raise CheckpointError(
                f"the {reads} encoder here is not the federation's: {encoder.digest[:12]} instead of {digest[:12]}",
                where=str(encoder.folder),
                remedy="use the same files; `fedforget-sim encoder FOLDER` shows their digest",
            )


def try_tower(encoder: EncoderFolder, data: DataConfig) -> int:
    """Run an encoder once on an empty input; returns its number of weights.

    Raises:
        ConfigError: it cannot read such inputs, or its features are not as long as it says.
    """
    tower = loaded(encoder)
    ones = torch.ones(1, data.max_tokens, dtype=torch.long)
    inputs = (torch.zeros(1, 1, encoder.size, encoder.size),) if encoder.reads == "image" else (ones, ones)

    try:
        with torch.no_grad():
            features = tower(*inputs)
    except Exception as err:  # noqa: BLE001 - each family checks its inputs in its own way
        what = f"images of {encoder.size} x {encoder.size}" if encoder.reads == "image" else f"{data.max_tokens} tokens"
        raise ConfigError(
            f"{encoder.family} cannot read {what} ({type(err).__name__})",
            where=str(encoder.folder),
            remedy="check size and shape in its JSON files, or give another encoder",
        ) from None

    if features.shape != (1, encoder.width) or not bool(torch.isfinite(features).all()):
        raise ConfigError(
            f"{encoder.family} gives features {list(features.shape)}, not {[1, encoder.width]} finite numbers",
            where=str(encoder.folder),
            remedy="take config.json and weights from one model",
        )

    return sum(weight.numel() for weight in tower.parameters())


def text_settings(data: DataConfig, encoder: EncoderFolder) -> DataConfig:
    """Its tokenizer, and as many tokens as it reads; all of them where the last position carries the features."""
    whole = TEXT[encoder.kind].needs_all_tokens
    tokens = encoder.positions if whole else min(data.max_tokens, encoder.positions)
    tokenizer = str(encoder.folder) if data.tokenizer == BUILTIN else data.tokenizer

    return data.model_copy(update={"max_tokens": tokens, "tokenizer": tokenizer})


def embeddings_of(
    card: ModelCard, pixels: ImageCache, tokenizer: Tokenizer, device: torch.device
) -> StudyEmbeddings | None:
    """Gives the features of the card's frozen encoders; None if it has none. Kept beside the cached pixels.

    Raises:
        ConfigError: a folder holds no encoder that is known.
        CheckpointError: it holds another encoder than the federation's.
        OutputError: the folder cannot be written.
    """
    model = card.model
    if model.frozen == "none":
        return None
    check_encoders(card)
    folders = encoder_folders(card)

    return StudyEmbeddings(
        cache=embeddings_beside(pixels.root, card.data.embedding_bytes),
        pixels=pixels,
        tokenizer=tokenizer,
        image=FrozenTower(folders["image"]) if model.freezes("image") else None,
        text=FrozenTower(folders["text"]) if model.freezes("text") else None,
        device=device,
    )
