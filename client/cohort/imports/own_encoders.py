"""Replaces the coordinator's folders of encoders and tokenizer in a model card by those of this hospital."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import ConfigError
from common.learning.data.vocabulary import BUILTIN, WORDS
from common.learning.model.card import ModelCard


@dataclass(frozen=True, slots=True)
class OwnFolders:
    """The folders that the hospital names; None for those that it does not."""

    image: Path | None = None
    text: Path | None = None
    tokenizer: Path | None = None


def with_own_folders(card: ModelCard, own: OwnFolders, before: ModelCard | None, where: str) -> ModelCard:
    """The federation's card with this hospital's folders: those in `own`, else those of an earlier import.

    A path that comes from the coordinator is never opened.

    Args:
        card: the federation's, with the coordinator's paths.
        own: what the hospital names now.
        before: the card of an earlier import, whose folders are kept.
        where: the file of the federation's card, for errors.

    Raises:
        ConfigError: a folder is needed and not named, named and not needed, or is not there.
    """
    folders_needed = _needed(card)
    own_folders = {
        kind: folder
        for kind, folder in (("image", own.image), ("text", own.text), ("tokenizer", own.tokenizer))
        if folder is not None
    }
    if extra := next((kind for kind in own_folders if kind not in folders_needed), None):
        raise ConfigError(
            f"the federation's model takes no {_NAMES[extra]} from a folder",
            where=where,
            remedy=f"leave out {_OPTIONS[extra]}",
        )

    earlier = _needed(before) if before is not None else {}
    folder_of_kind = {
        kind: str(own_folders[kind].resolve()) if kind in own_folders else earlier.get(kind, "")
        for kind in folders_needed
    }
    if missing := [kind for kind in folders_needed if not folder_of_kind[kind]]:
        folders = " and ".join(_described(card, kind) for kind in missing)
        options = " ".join(f"{_OPTIONS[kind]} FOLDER" for kind in missing)
        raise ConfigError(
            f"the federation's model needs this hospital's own copy of {folders}",
            where=where,
            remedy=f"give {options}; `fedforget-sim encoder FOLDER` shows a folder's digest",
        )

    mine = _replaced(card, folder_of_kind)
    # The bundle of an earlier coordinator has no digests: those of the folders here take their place, and instructions
    # that name others are refused.
    return mine.pinned() if (mine.model.image_folder or mine.model.text_folder) and not mine.encoders else mine


def options_for(experiment: bytes) -> str:
    """What `data import` needs besides the manifest, to be printed; empty if the card in the bundle names no folder."""
    card = ModelCard.model_validate_json(experiment)
    return "".join(f" {_OPTIONS[kind]} FOLDER" for kind in _needed(card))


_OPTIONS = {"image": "--image-encoder", "text": "--text-encoder", "tokenizer": "--tokenizer"}
_NAMES = {"image": "image encoder", "text": "text encoder", "tokenizer": "tokenizer"}
_DIGEST_CHARACTERS = 12


def _needed(card: ModelCard) -> dict[str, str]:
    """The folders that a card names, by what they hold. The tokenizer of the text encoder's folder needs no own one."""
    folders = {"image": card.model.image_folder, "text": card.model.text_folder}
    if card.data.tokenizer not in {BUILTIN, WORDS, card.model.text_folder}:
        folders["tokenizer"] = card.data.tokenizer

    return {kind: folder for kind, folder in folders.items() if folder}


def _described(card: ModelCard, kind: str) -> str:
    """A folder that is needed, with the digest that it must have."""
    digest = {"image": card.image_encoder, "text": card.text_encoder}.get(kind, "")
    digest_text = f" (digest {digest[:_DIGEST_CHARACTERS]})" if digest else ""

    return f"the {_NAMES[kind]}{digest_text}"


def _replaced(card: ModelCard, chosen: Mapping[str, str]) -> ModelCard:
    model = card.model.model_copy(
        update={"image_folder": chosen.get("image", ""), "text_folder": chosen.get("text", "")}
    )
    tokenizer = card.data.tokenizer
    if tokenizer == card.model.text_folder and tokenizer:
        tokenizer = chosen["text"]
    tokenizer = chosen.get("tokenizer", tokenizer)

    return card.model_copy(update={"model": model, "data": card.data.model_copy(update={"tokenizer": tokenizer})})
