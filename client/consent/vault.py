"""The site's erasable vault: signed forms and the salts under which the record commits to them.

The record and the log keep a commitment alone; without the file here it means nothing to anybody, for good.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import InputError, OutputError
from common.evidence.commitment import SALT_BYTES, commitment
from common.files import read_private, sync_folder, write_durable

_NAME = re.compile(r"[0-9a-f]{8,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Kept:
    """A document of the vault with its salt."""

    document: bytes = field(repr=False)
    salt: bytes = field(repr=False)

    @property
    def commitment(self) -> str:
        """What the record says of it."""
        return commitment(self.document, self.salt)


@dataclass(frozen=True, slots=True)
class Vault:
    """Files in `folder`, one for each receipt, readable by their owner alone.

    Args:
        random: bytes that nobody can guess, such as `secrets.token_bytes`.
    """

    folder: Path
    random: Callable[[int], bytes]

    def keep(self, receipt: str, document: bytes) -> str:
        """Put a document on the disk under a new salt, before the record has the receipt; returns the commitment.

        Where an attempt that was not recorded left the same one, its salt stays: the log may have committed to it.
        Another one is replaced.

        Raises:
            OutputError: the disk does not take it.
        """
        before = self.opened(receipt)
        if before is not None and before.document == document:
            return before.commitment
        kept = Kept(document, self.random(SALT_BYTES))
        write_durable(self._path(receipt), kept.salt + kept.document)
        return kept.commitment

    def opened(self, receipt: str) -> Kept | None:
        """A document and its salt; None where none was kept, or it was erased.

        Raises:
            InputError: others can read it.
        """
        path = self._path(receipt)
        if not path.exists():
            return None
        content = read_private(path)
        return Kept(content[SALT_BYTES:], content[:SALT_BYTES])

    def find(self, receipt: str) -> Kept | None:
        """As `opened`; None where nothing is kept under this receipt, or no longer."""
        return self.opened(receipt) if _NAME.fullmatch(receipt) and self._path(receipt).exists() else None

    def erase(self, receipt: str) -> bool:
        """Forget a document and its salt; whether there was one.

        Raises:
            OutputError: it cannot be deleted.
        """
        path = self._path(receipt)
        try:
            path.unlink()
            sync_folder(self.folder)
        except FileNotFoundError:
            return False
        except OSError as err:
            raise OutputError(f"cannot delete: {err.strerror}", where=str(path), remedy="check its owner") from None
        return True

    def _path(self, receipt: str) -> Path:
        if not _NAME.fullmatch(receipt):
            raise InputError("not a receipt", remedy="see fedforget-site revocations list")
        return self.folder / receipt
