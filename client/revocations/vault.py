"""The site's erasable vault: signed forms, and the salts of the commitments to them.

The record and the log keep only a commitment, which is meaningless without the file here. A form is stored before the
record; until then it is marked, so that files left by a killed process are found and removed.
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

# Hexadecimal, so that a receipt is a safe file name.
_NAME = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
_MARK = ".new"


@dataclass(frozen=True, slots=True)
class VaultDocument:
    """A document in the vault, with its salt."""

    document: bytes = field(repr=False)
    salt: bytes = field(repr=False)

    @property
    def commitment(self) -> str:
        """The commitment that the record keeps."""
        return commitment(self.document, self.salt)


@dataclass(frozen=True, slots=True)
class Vault:
    """Files in `folder`, one per receipt, readable by their owner only.

    Args:
        random: gives unpredictable bytes, e.g. `secrets.token_bytes`.
    """

    folder: Path
    random: Callable[[int], bytes]

    def keep(self, receipt: str, document: bytes) -> str:
        """Store a document with a new salt, before the receipt is recorded; returns the commitment.

        Call it within the transaction that records the receipt, then call `settle` or `erase`.

        If an unrecorded attempt left the same document, its salt stays: the log may have committed to it. A different
        document is replaced.

        Raises:
            OutputError: the disk does not take it.
        """
        before = self.opened(receipt)
        if before is not None and before.document == document:
            return before.commitment
        vault_document = VaultDocument(document, self.random(SALT_BYTES))
        write_durable(self._marked(receipt), vault_document.salt + vault_document.document)

        return vault_document.commitment

    def settle(self, receipt: str) -> None:
        """Remove the mark once the receipt is recorded; if that fails, `sweep` does it later."""
        with contextlib.suppress(OSError):
            os.replace(self._marked(receipt), self._path(receipt))

    def sweep(self, recorded: Container[str]) -> int:
        """Settle the recorded files that killed processes left, and remove the others; returns the number removed.

        Call it while nothing can be recorded.

        Raises:
            OutputError: something cannot be deleted.
        """
        removals = 0

        # A list, as files are renamed and deleted on the way.
        for path in [path for path in self.folder.glob("*") if path.suffix in (_MARK, ".part")]:
            receipt = path.name.removesuffix(_MARK)
            if receipt in recorded:
                self.settle(receipt)
            else:
                removals += _delete(path)

        return removals

    def opened(self, receipt: str) -> VaultDocument | None:
        """A document and its salt, or None if there is none or it was erased.

        Raises:
            InputError: others can read it.
        """
        for path in (self._marked(receipt), self._path(receipt)):
            try:
                content = read_private(path)
            except InputError:
                # A missing file is an answer. One that others can read is not.
                if path.exists():
                    raise
            else:
                return VaultDocument(content[SALT_BYTES:], content[:SALT_BYTES])

        return None

    def find(self, receipt: str) -> VaultDocument | None:
        """As `opened`; None where nothing is kept under this receipt, or no longer."""
        return self.opened(receipt) if _NAME.fullmatch(receipt) else None

    def erase(self, receipt: str) -> bool:
        """Erase a document and its salt; returns whether there was one.

        Raises:
            OutputError: it cannot be deleted.
        """
        # A list, so that both are deleted: the second copy must not stay because the first one was there.
        deletions = [_delete(path) for path in (self._marked(receipt), self._path(receipt))]
        return any(deletions)

    def _marked(self, receipt: str) -> Path:
        path = self._path(receipt)
        return path.with_name(path.name + _MARK)

    def _path(self, receipt: str) -> Path:
        if not _NAME.fullmatch(receipt):
            raise InputError("invalid receipt", remedy="see fedforget-site revocations list")
        return self.folder / receipt


def _delete(path: Path) -> bool:
    """Whether it was there."""
    try:
        path.unlink()
        # A deletion counts once the folder is on the disk: after a power cut the form must not be back.
        sync_folder(path.parent)
    except FileNotFoundError:
        return False
    except OSError as err:
        raise OutputError(f"cannot delete: {err.strerror}", where=str(path), remedy="check its owner") from None

    return True
