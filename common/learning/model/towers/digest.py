"""The digest that pins an encoder: of all files that its features depend on."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from common.errors import ConfigError

_NAMES = (
    "1_Pooling/config.json",
    "config.json",
    "merges.txt",
    "model.safetensors",
    "model.safetensors.index.json",
    "modules.json",
    "preprocessor_config.json",
    "processor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
"""Other files of a folder (a read-me, weights in other formats) are neither read nor pinned."""


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of the files that are read, in order of their names.

    Raises:
        ConfigError: a file cannot be read.
    """
    # Each file's digest, not one over all bytes: content must not move from one file to the next unnoticed.
    lines = "".join(f"{path.relative_to(folder).as_posix()}:{_of(path)};" for path in pinned_files(folder))
    return hashlib.sha256(lines.encode()).hexdigest()


def pinned_files(folder: Path) -> list[Path]:
    """The files that are read, as far as they are there."""
    shards = folder.glob("model-*-of-*.safetensors")
    return sorted({path for path in (*(folder / name for name in _NAMES), *shards) if path.is_file()})


def _of(path: Path) -> str:
    status = path.stat()
    return _file_digest(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_digest(path: Path, _size: int, _changed: int) -> str:
    """Computed again when the file's size or time of change differ: weights are large, and models are built often."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise ConfigError(f"cannot be read: {err.strerror}", where=str(path), remedy="check its permissions") from None
