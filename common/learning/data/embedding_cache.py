"""Features of frozen encoders, computed once a study: on disk by digest of study and encoder, bounded in bytes.

An embedding says nearly as much about a patient as the study does: it is deleted with their pixels and counted then,
and its name is no more than digests. A report's digest is keyed with a secret of this folder, as one could guess short
reports.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError
from common.learning.data.entry_folder import CHECKSUM, EntryFolder

FOLDER = "embeddings"
"""Beside a site's cached pixels."""
_VERSION = 1
_SECRET_BYTES = 32


class EmbeddingCache:
    """Rows of float32 by study and encoder.

    Args:
        root: folder of the cache.
        max_bytes: bound of all rows together; the least recently used go first.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.root = root
        self.max_bytes = max_bytes
        self._entries = EntryFolder(root, max_bytes, "the cache of embeddings")
        with self._entries.on_disk():
            self._secret = _secret(root / ".secret")

    def key_of_report(self, report: str) -> str:
        """Names a report in this folder, and in no other."""
        return hmac.new(self._secret, report.encode(), hashlib.sha256).hexdigest()

    def fetch(self, key: str, encoder: str, width: int) -> NDArray[np.float32] | None:
        """A row of `width` numbers, or None when it is not there or not whole."""
        return self._read(self.root / _name(key, encoder), width)

    def put(self, key: str, encoder: str, row: NDArray[np.float32]) -> None:
        """Keep a row.

        Raises:
            ConfigError: the bound is below one row.
            OutputError: it cannot be written.
        """
        if self.max_bytes < CHECKSUM + row.nbytes:
            raise ConfigError(
                f"{self.max_bytes} bytes do not hold one embedding", where="data.embedding_bytes", remedy="raise it"
            )
        values = np.ascontiguousarray(row, dtype=np.float32).tobytes()
        self._entries.write(_name(key, encoder), values, lambda path: self._read(path, len(row)) is not None)

    def discard_studies(self, images: Collection[str], reports: Collection[str]) -> int:
        """Delete the rows of images, by the SHA-256 of their files, and of reports, of all encoders.

        Returns how many went.

        Raises:
            OutputError: a row cannot be removed.
        """
        keys = {*images, *(self.key_of_report(report) for report in reports)} - {""}
        return self._entries.discard(keys)

    def _read(self, entry: Path, width: int) -> NDArray[np.float32] | None:
        with self._entries.on_disk():
            try:
                data = entry.read_bytes()
                os.utime(entry)  # its time of change is its last use, by which entries are evicted
            except FileNotFoundError:
                return None

        checksum, values = data[:CHECKSUM], data[CHECKSUM:]
        # A row that is cut short or damaged counts as absent: it is made again.
        if len(values) != 4 * width or hashlib.sha256(values).digest() != checksum:
            return None
        return np.frombuffer(values, dtype=np.float32)


def embeddings_beside(pixels: Path, max_bytes: int) -> EmbeddingCache:
    """The cache of embeddings that belongs to a folder of cached pixels."""
    return EmbeddingCache(pixels / FOLDER, max_bytes)


def _name(key: str, encoder: str) -> str:
    return f"{key}-{encoder[:32]}-v{_VERSION}"


def _secret(path: Path) -> bytes:
    """The folder's secret, made by the first process that asks."""
    if not path.exists():
        own = path.with_name(f".secret.{os.getpid()}.{threading.get_ident()}")
        own.touch(mode=0o600)
        own.write_bytes(secrets.token_bytes(_SECRET_BYTES))
        with suppress(FileExistsError):
            os.link(own, path)  # whole or not at all, and only if nobody was faster
        own.unlink()

    return path.read_bytes()
