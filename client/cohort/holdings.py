"""Model versions on this site's disk, by the digest of their weights: the base of later deltas.

Files and their records in the site's database change in one transaction. A killed process leaves at most a file without
a record or a record without a file; the next call of any function here removes the one and closes the other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from client.database import HoldingRow, RetiredRow
from common.disk import unwritable
from common.errors import CheckpointError, OutputError, RefusedError, WireError
from common.files import sync_folder
from common.platform.sql import transaction

if TYPE_CHECKING:
    from torch import Tensor

KEEP = 3
"""Largest number of versions held; the oldest is deleted first."""
_SUFFIX = ".safetensors"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class HeldVersions:
    """Versions in `folder`, recorded in the site's database.

    Every method raises an `OutputError` if the folder cannot be written, and a `WireError` for an invalid digest.
    """

    folder: Path
    engine: Engine
    clock: Callable[[], datetime]
    keep_most: int = KEEP

    def keep(self, digest: str, state: Mapping[str, Tensor], name: str) -> None:
        """Hold a version; deletes the oldest ones beyond the limit.

        Raises:
            CheckpointError: the weights differ from the digest.
            RefusedError: it was retired.
        """
        # torch, which the announcing process does not need.
        from common.learning.model.checkpoint import state_digest  # noqa: PLC0415

        path = self._file(digest)
        # Later requests are changes to these weights: under a wrong digest they would spoil all that follow.
        if state_digest(state) != digest:
            raise CheckpointError("weights differ from their digest", where=name, remedy="ask for them again")
        self.check(digest)
        with transaction(self.engine) as session:
            self._settle(session)
            self._save(path, state)
            row = session.get(HoldingRow, digest) or HoldingRow(digest=digest)
            row.name, row.received, row.purged, row.acknowledged = name, self.clock(), None, None
            session.add(row)
            session.flush()
            digests_here = self._held(session)
            self._delete(session, digests_here[: max(0, len(digests_here) - self.keep_most)])

    def load(self, digest: str) -> dict[str, Tensor]:
        """The weights of a version.

        Raises:
            CheckpointError: it is not held, or damaged.
        """
        from safetensors import SafetensorError  # noqa: PLC0415 - as in `keep`
        from safetensors.torch import load_file  # noqa: PLC0415

        from common.learning.model.checkpoint import state_digest  # noqa: PLC0415

        path = self._file(digest)

        try:
            state: dict[str, Tensor] = load_file(path)
        except FileNotFoundError:
            raise CheckpointError(
                "this site does not hold this version", where=digest[:12], remedy="have it sent"
            ) from None
        except (OSError, SafetensorError):
            raise CheckpointError("damaged", where=str(path), remedy="have the version sent again") from None

        if state_digest(state) != digest:
            raise CheckpointError("weights differ from their digest", where=str(path), remedy="have them sent again")
        return state

    def held(self) -> tuple[str, ...]:
        """Digests of the held versions, oldest first."""
        with transaction(self.engine) as session:
            self._settle(session)
            return self._held(session)

    def check(self, digest: str) -> None:
        """Refuse retired weights, whoever sends them: a coordinator restored from an older backup might.

        Raises:
            RefusedError: patients in these weights have been forgotten since.
        """
        with transaction(self.engine) as session:
            if session.get(RetiredRow, digest) is not None:
                raise RefusedError(
                    f"weights {digest[:12]} were trained on patients who have been forgotten since: train again"
                )

    def retire(self, digests: Collection[str]) -> frozenset[str]:
        """Permanently delete versions; returns those of which no copy is left, even if there never was one."""
        files = {digest: self._file(digest) for digest in digests}

        with transaction(self.engine) as session:
            self._settle(session)
            recorded_digests = set(session.scalars(select(RetiredRow.digest)))
            # Also where there never was a copy: a coordinator that was restored from a backup may still send these
            # weights.
            session.add_all(RetiredRow(digest=digest, at=self.clock()) for digest in files.keys() - recorded_digests)
            # Before the commit: after a crash in between, `_settle` finds a record without a file and closes it.
            self._delete(session, [digest for digest, path in files.items() if path.exists()])

        return frozenset(digest for digest, path in files.items() if not path.exists())

    def acknowledged(self, digests: Collection[str]) -> None:
        """Record that the coordinator knows of these deletions."""
        with transaction(self.engine) as session:
            back_again = update(HoldingRow).where(HoldingRow.digest.in_(digests), HoldingRow.purged.is_not(None))
            session.execute(back_again.values(acknowledged=self.clock()))

    def _file(self, digest: str) -> Path:
        # A digest comes from a message and becomes part of a path.
        if not _DIGEST.fullmatch(digest):
            raise WireError("not a digest of weights")
        return self.folder / f"{digest}{_SUFFIX}"

    def _held(self, session: Session) -> tuple[str, ...]:
        rows = select(HoldingRow.digest).where(HoldingRow.purged.is_(None))
        return tuple(session.scalars(rows.order_by(HoldingRow.received, HoldingRow.digest)))

    def _settle(self, session: Session) -> None:
        """Reconcile files and records after a process was killed between them."""
        digests_on_record = set(self._held(session))
        present = set()

        try:
            for path in self.folder.iterdir() if self.folder.exists() else ():
                if path.suffix == _SUFFIX and path.stem in digests_on_record:
                    present.add(path.stem)
                else:
                    path.unlink()
        except OSError as err:
            raise _unwritable(self.folder, err) from None

        self._delete(session, digests_on_record - present)

    def _delete(self, session: Session, digests: Collection[str]) -> None:
        if not digests:
            return
        try:
            for digest in digests:
                self._file(digest).unlink(missing_ok=True)
            # A deletion that the coordinator is told of must outlast a power cut.
            if self.folder.exists():
                sync_folder(self.folder)
        except OSError as err:
            raise _unwritable(self.folder, err) from None

        session.execute(update(HoldingRow).where(HoldingRow.digest.in_(digests)).values(purged=self.clock()))

    def _save(self, path: Path, state: Mapping[str, Tensor]) -> None:
        from safetensors import SafetensorError  # noqa: PLC0415 - as in `keep`
        from safetensors.torch import save_file  # noqa: PLC0415

        part = path.with_suffix(".part")

        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                # Cloned because the format refuses tensors that share memory.
                save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}, part)
                with part.open("rb") as file:
                    os.fsync(file.fileno())
                os.replace(part, path)
                sync_folder(self.folder)
            finally:
                part.unlink(missing_ok=True)
        except OSError as err:
            raise _unwritable(self.folder, err) from None
        except SafetensorError as err:  # what the disk refuses, too
            raise unwritable(err, self.folder, what="weights") from None


def _unwritable(folder: Path, err: OSError) -> OutputError:
    return unwritable(err, folder)
