"""Folders of model versions on disk: each is whole or not there."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from common.disk import unwritable
from common.errors import OutputError
from common.files import write_text
from common.learning.model.card import ModelCard
from server.registry.manifest import MANIFEST_FILE, Manifest, Provenance, digests_of

if TYPE_CHECKING:
    from torch import Tensor

_NAME = re.compile(r"v\d{4,}")


def is_version(name: str) -> bool:
    """Whether a folder of this name is a version."""
    return _NAME.fullmatch(name) is not None


def number(name: str) -> int:
    """Place of a version in the order of publication."""
    return int(name[1:])


def next_name(folder: Path, known: Iterable[str]) -> str:
    """A name that neither a record nor a folder has had."""
    here = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return f"v{max((number(name) for name in (*known, *here) if is_version(name)), default=0) + 1:04}"


def write_version(
    folder: Path,
    name: str,
    state: Mapping[str, Tensor],
    card: ModelCard,
    *,
    created: datetime,
    parent: str | None,
    campaign: int | None,
    provenance: Provenance,
) -> Manifest:
    """Write a version beside its place, flush it to the disk and move it there.

    Raises:
        OutputError: the folder cannot be written or the disk is full; nothing is left of the version then.
    """
    from common.learning.model.checkpoint import save_checkpoint  # noqa: PLC0415 - torch, which listings do not need

    part = folder / f".{name}.part"

    try:
        # What an earlier attempt left.
        shutil.rmtree(part, ignore_errors=True)
        # Weights can tell of those they were trained on: for the coordinator's account alone.
        part.mkdir(mode=0o700, parents=True)
        weights = save_checkpoint(part, state, card)
        manifest = Manifest(
            name=name,
            created=created,
            parent=parent,
            campaign=campaign,
            weights=weights,
            files=digests_of(part),
            provenance=provenance,
        )
        write_text(part / MANIFEST_FILE, manifest.model_dump_json(indent=2) + "\n")
        # On the disk before the rename: a version in its place is whole, also after a power cut.
        for path in part.iterdir():
            _sync(path)
        _sync(part)
        part.rename(folder / name)
        _sync(folder)
    except OutputError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    except OSError as err:
        shutil.rmtree(part, ignore_errors=True)
        raise unwritable(err, folder, what=f"version {name}") from err

    return manifest


def delete_version(folder: Path, name: str) -> None:
    """Delete a version's folder; by a rename first, so that it never stands there in part.

    Raises:
        OutputError: it cannot be deleted.
    """
    leftover = folder / f".{name}.gone"

    try:
        if (folder / name).is_dir():
            (folder / name).rename(leftover)
        if leftover.is_dir():
            shutil.rmtree(leftover)
    except OSError as err:
        raise OutputError(
            f"cannot delete version {name}: {err.strerror or err}", where=str(folder), remedy="see who owns it"
        ) from err


def remove_leftovers(folder: Path) -> tuple[str, ...]:
    """Remove what was being written or deleted when the process was killed; the names of what was there."""
    leftovers = sorted(path for path in folder.glob(".v*") if path.suffix in {".part", ".gone"})
    for path in leftovers:
        # Whoever deletes it at the same time wants the same.
        shutil.rmtree(path, ignore_errors=True)

    return tuple(path.name for path in leftovers)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
