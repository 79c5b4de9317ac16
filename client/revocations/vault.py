"""The site's erasable vault: signed forms and the salts under which the record commits to them.

The record and the log keep a commitment alone; without the file here it means nothing to anybody, for good. A form is
here before the record is; until then it is marked, so that what a killed process left is found and removed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import InputError, OutputError
from common.evidence.commitment import SALT_BYTES, commitment
from common.files import read_private, sync_folder, write_durable

_NAME = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
_MARK = ".new"


@dataclass(frozen=True, slots=True)
class VaultDocument:
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

        To be called within the transaction that records the receipt, and followed by `settle` or `erase`.

        Where an attempt that was not recorded left the same one, its salt stays: the log may have committed to it.
        Another one is replaced.

        Raises:
            OutputError: the disk does not take it.
        """
        before = self.opened(receipt)
        if before is not None and before.document == document:
            return before.commitment
        kept = VaultDocument(document, self.random(SALT_BYTES))
        write_durable(self._marked(receipt), kept.salt + kept.document)

        return kept.commitment

    def settle(self, receipt: str) -> None:
        """The record has the receipt; where this cannot be done now, `sweep` does it."""
        with contextlib.suppress(OSError):
            os.replace(self._marked(receipt), self._path(receipt))

    def sweep(self, recorded: Container[str]) -> int:
        """Settle what killed processes left here if the record has it, remove it otherwise; returns how many went.

        To be called while nothing can be recorded.

        Raises:
            OutputError: something cannot be deleted.
        """
        removed = 0

        for path in [path for path in self.folder.glob("*") if path.suffix in (_MARK, ".part")]:
            receipt = path.name.removesuffix(_MARK)
            if receipt in recorded:
                self.settle(receipt)
            else:
                removed += _delete(path)

        return removed

    def opened(self, receipt: str) -> VaultDocument | None:
        """A document and its salt; None where none was kept, or it was erased.

        Raises:
            InputError: others can read it.
        """
        for path in (self._marked(receipt), self._path(receipt)):
            try:
                content = read_private(path)
            except InputError:
                if path.exists():
                    raise
            else:
                return VaultDocument(content[SALT_BYTES:], content[:SALT_BYTES])

        return None

    def find(self, receipt: str) -> VaultDocument | None:
        """As `opened`; None where nothing is kept under this receipt, or no longer."""
        return self.opened(receipt) if _NAME.fullmatch(receipt) else None

    def erase(self, receipt: str) -> bool:
        """Forget a document and its salt; whether there was one.

        Raises:
            OutputError: it cannot be deleted.
        """
        found = [_delete(path) for path in (self._marked(receipt), self._path(receipt))]
        return any(found)

    def _marked(self, receipt: str) -> Path:
        path = self._path(receipt)
        return path.with_name(path.name + _MARK)

    def _path(self, receipt: str) -> Path:
        if not _NAME.fullmatch(receipt):
            raise InputError("not a receipt", remedy="see fedforget-site revocations list")
        return self.folder / receipt


def _delete(path: Path) -> bool:
    """Whether it was there."""
    try:
        path.unlink()
        sync_folder(path.parent)
    except FileNotFoundError:
        return False
    except OSError as err:
        raise OutputError(f"cannot delete: {err.strerror}", where=str(path), remedy="check its owner") from None

    return True
