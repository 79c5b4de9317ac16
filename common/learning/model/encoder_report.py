"""What is understood of an encoder folder, as plain values for people and for JSON."""

from __future__ import annotations

from pathlib import Path

from common.errors import ConfigError
from common.learning.config import DataConfig
from common.learning.data.tokenizer import load_tokenizer
from common.learning.model.pinned_encoders import text_settings, try_tower
from common.learning.model.towers.families import FAMILIES, Reads
from common.learning.model.towers.files import read_json
from common.learning.model.towers.folder import EncoderFolder, read_folder


def report_on(folder: Path, reads: Reads | None = None) -> dict[str, object]:
    """Load the encoder, run it once on an empty input, and say what it is.

    Args:
        folder: of the encoder.
        reads: which tower, where the folder has two.

    Raises:
        ConfigError: the folder holds no encoder that is known, or one that does not run.
    """
    encoder = read_folder(folder, reads or _only_tower(folder))
    data = DataConfig(max_tokens=512)
    values: dict[str, object] = {"family": encoder.family, "reads": encoder.reads}

    if encoder.reads == "text":
        data = text_settings(data, encoder)
        tokenizer = load_tokenizer(str(folder), data.max_tokens)
        values |= {"tokens": data.max_tokens, "vocabulary": tokenizer.vocab_size}
    else:
        values |= _pixels(encoder)

    parameters = try_tower(encoder, data)
    return {
        **values,
        "pooling": f"{encoder.pooling}, length 1" if encoder.unit else encoder.pooling,
        "features": encoder.width,
        "parameters": parameters,
        "licence": encoder.licence or "not stated",
        "digest": encoder.digest,
    }


def _pixels(encoder: EncoderFolder) -> dict[str, object]:
    pixels = encoder.pixels
    if pixels is None:
        return {}
    return {
        "size": encoder.size,
        "channels": encoder.channels,
        "scale": pixels.scale,
        "mean": list(pixels.mean),
        "std": list(pixels.std),
    }


def _only_tower(folder: Path) -> Reads:
    """Images if the folder's family reads them alone, or nothing that is known."""
    kind = str(read_json(folder / "config.json").get("model_type", "")) if folder.is_dir() else ""
    if kind in FAMILIES["image"] and kind in FAMILIES["text"]:
        raise ConfigError(
            "has an image and a text tower", where=str(folder), remedy="say which one: --reads image or --reads text"
        )
    return "text" if kind in FAMILIES["text"] else "image"
