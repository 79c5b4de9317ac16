"""What a folder holds: the encoder's family, shape, normalisation and pooling, read without its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from common.learning.model.towers.digest import folder_digest
from common.learning.model.towers.families import FAMILIES, TIMM, Family, Pooling, Reads, names
from common.learning.model.towers.files import read_json, stated_licence
from common.learning.model.towers.preprocessing import Pixels, read_pixels
from common.learning.model.towers.timm_folder import architecture, timm_pixels

_OTHER: dict[Reads, Reads] = {"image": "text", "text": "image"}
_SIDE = 224
_POOLING = {
    "pooling_mode_cls_token": "class token",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True, slots=True)
class EncoderFolder:
    """An encoder in a local folder.

    Attributes:
        folder: with `config.json` and `model.safetensors`.
        reads: image or text.
        kind: `model_type` of the family, or `timm`.
        family: as people call it.
        width: length of the features.
        pooling: how features become one row.
        unit: the row is then scaled to length 1.
        pixels: normalisation of an image encoder, None for a text encoder.
        channels: of an image.
        positions: tokens that a text encoder reads at most; 0 for an image encoder.
        vocabulary: rows of a text encoder's embedding.
        licence: as stated, empty if not.
        digest: pins all files that are read.
    """

    folder: Path
    reads: Reads
    kind: str
    family: str
    width: int
    pooling: Pooling
    unit: bool
    pixels: Pixels | None
    channels: int
    positions: int
    vocabulary: int
    licence: str
    digest: str

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return (self.pixels.size if self.pixels else None) or _SIDE

    def said(self) -> dict[str, object]:
        """All of it as plain values."""
        return {**asdict(self), "folder": str(self.folder)}


def read_folder(folder: Path, reads: Reads) -> EncoderFolder:
    """What the encoder in `folder` is, as an encoder of images or texts.

    Raises:
        ConfigError: the family is not known here.
    """
    where = str(folder)
    if not str(folder) or not folder.is_dir():
        raise ConfigError(
            f"no such folder for model.{reads}_folder", where=where, remedy="give a local folder with config.json"
        )

    raw = read_json(folder / "config.json")
    _refuse_other_makes(folder, raw)
    # Settings of timm name an architecture, those of transformers a `model_type`.
    if "architecture" in raw:
        return _of_timm(folder, reads, raw)

    kind = str(raw.get("model_type", ""))
    family = FAMILIES[reads].get(kind)
    if family is None:
        other = FAMILIES[_OTHER[reads]].get(kind)
        what = f"{other.name} reads {_OTHER[reads]}s" if other else f"family {kind[:40]!r} is not known"
        raise ConfigError(
            f"no {reads} encoder: {what}", where=where, remedy=f"give a folder of one of {names(reads)}, or timm"
        )

    return _of_transformers(folder, reads, kind, family)


def _refuse_other_makes(folder: Path, raw: dict[str, Any]) -> None:
    """Say what to do with folders that hold a model in another form."""
    where = str(folder)
    if (folder / "adapter_config.json").exists():
        raise ConfigError(
            "holds adapters, not an encoder", where=where, remedy="merge them into their base model and save that"
        )
    if not raw:
        remedy = "give a local folder with config.json and model.safetensors"
        if (folder / "open_clip_config.json").exists():
            remedy = "an open_clip folder: save its towers in the format of timm and of transformers"
        raise ConfigError("no config.json", where=where, remedy=remedy)
    if "auto_map" in raw:
        raise ConfigError(
            "needs code of its own, which is never run", where=where, remedy="give a model of a family in the docs"
        )
    if not any(folder.glob("model*.safetensors")):
        has_pickles = any(folder.glob("*.bin")) or any(folder.glob("*.pt*")) or any(folder.glob("*.ckpt"))
        remedy = "save it again with save_pretrained" if has_pickles else "copy the weights beside config.json"
        raise ConfigError(
            f"no model.safetensors{', and pickles are not read' if has_pickles else ''}", where=where, remedy=remedy
        )


def _of_timm(folder: Path, reads: Reads, raw: dict[str, Any]) -> EncoderFolder:
    if reads != "image":
        raise ConfigError("no text encoder: timm reads images", where=str(folder), remedy=f"use {names(reads)}")
    pixels, channels = timm_pixels(raw, str(folder))

    return EncoderFolder(
        folder=folder,
        reads="image",
        kind=TIMM,
        family=f"timm, {architecture(raw, str(folder))}",
        width=_positive(raw.get("num_features"), "num_features", folder),
        pooling="pooler",
        unit=False,
        pixels=pixels,
        channels=channels,
        positions=0,
        vocabulary=0,
        licence=stated_licence(folder),
        digest=folder_digest(folder),
    )


def _of_transformers(folder: Path, reads: Reads, kind: str, family: Family) -> EncoderFolder:
    config = settings_of(folder, reads)
    channels = 0
    pixels = None

    if reads == "image":
        channels = _positive(getattr(config, "num_channels", 3), "num_channels", folder)
        pixels = read_pixels(folder, channels)
        if pixels.size is None:
            own = getattr(config, "image_size", None)
            pixels = Pixels(own if isinstance(own, int) else _SIDE, pixels.scale, pixels.mean, pixels.std)

    pooling, unit = (family.pooling, False) if reads == "image" else _text_pooling(folder, family)

    return EncoderFolder(
        folder=folder,
        reads=reads,
        kind=kind,
        family=family.name,
        width=_width(config, folder),
        pooling=pooling,
        unit=unit,
        pixels=pixels,
        channels=channels,
        positions=_positions(config, folder) if reads == "text" else 0,
        vocabulary=_positive(getattr(config, "vocab_size", 0), "vocab_size", folder) if reads == "text" else 0,
        licence=stated_licence(folder),
        digest=folder_digest(folder),
    )


def settings_of(folder: Path, reads: Reads) -> Any:
    """The `transformers` configuration of the folder's tower for images or texts.

    Raises:
        ConfigError: `config.json` is not one.
    """
    from transformers import AutoConfig  # noqa: PLC0415 - seconds of import that other encoders do not need

    try:
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as err:  # noqa: BLE001 - each family checks its own settings, with errors of all kinds
        raise ConfigError(
            f"config.json does not describe a model ({type(err).__name__})",
            where=str(folder),
            remedy="take this file from where the model comes from",
        ) from None

    part = {"image": "vision_config", "text": "text_config"}[reads]
    return getattr(config, part, config)


def _text_pooling(folder: Path, family: Family) -> tuple[Pooling, bool]:
    """As sentence-transformers states it beside the model, otherwise the family's own."""
    modes = read_json(folder / "1_Pooling" / "config.json")
    pooling_modes = [name for name, value in modes.items() if name.startswith("pooling_mode_") and value is True]
    if not pooling_modes:
        return family.pooling, False
    if len(pooling_modes) > 1 or pooling_modes[0] not in _POOLING:
        raise ConfigError(
            f"pooling {', '.join(pooling_modes)[:120]} is not known",
            where=str(folder / "1_Pooling" / "config.json"),
            remedy="give an encoder that takes the class token, the mean or the maximum",
        )

    modules = (folder / "modules.json").read_text(encoding="utf-8") if (folder / "modules.json").is_file() else ""
    pooling: Pooling = _POOLING[pooling_modes[0]]  # type: ignore[assignment]  # its values are all of them

    return pooling, "models.Normalize" in modules


def _width(config: Any, folder: Path) -> int:
    hidden = getattr(config, "hidden_size", None)
    sizes = getattr(config, "hidden_sizes", None)
    # EfficientNet states the width of its last layer under a name of its own.
    if config.model_type == "efficientnet":
        hidden = config.hidden_dim
    elif not isinstance(hidden, int) and sizes:
        hidden = sizes[-1]
    return _positive(hidden, "hidden_size", folder)


def _positions(config: Any, folder: Path) -> int:
    positions = _positive(getattr(config, "max_position_embeddings", None), "max_position_embeddings", folder)
    # RoBERTa counts positions from the padding token's number.
    return positions - int(config.pad_token_id or 0) - 1 if "roberta" in config.model_type else positions


def _positive(value: object, name: str, folder: Path) -> int:
    if not isinstance(value, int) or not 0 < value < 2**24:
        raise ConfigError(f"config.json: {name} must be a whole number above 0", where=str(folder), remedy="correct it")
    return value
