"""Write files whole or not at all, and files that only their owner may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from common.disk import unwritable
from common.errors import InputError, OutputError


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    # In the same folder, as a rename is atomic only within one file system.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(content)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as err:
        raise unwritable(err, path) from err


def write_durable(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, readable by its owner alone, and on the disk when this returns.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # The mode is given at creation: a `chmod` afterwards would leave a moment in which others can open it.
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

            # The rename itself is on disk only once the folder is.
            os.replace(part, path)
            sync_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)
    except OSError as err:
        raise unwritable(err, path) from err


def sync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that added and removed names survive a power loss.

    Raises:
        OSError: the folder is gone.
    """
    handle = os.open(folder, os.O_RDONLY)

    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read; never replace an existing one.

    Raises:
        OutputError: the file exists, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # O_EXCL: of two processes that make a key at once, one gets an error instead of the other's key.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
    except FileExistsError:
        raise OutputError(
            "exists already", where=str(path), remedy="keys are never overwritten: move the file away"
        ) from None
    except OSError as err:
        raise unwritable(err, path) from err


def read_private(path: Path) -> bytes:
    """Read a key or a secret.

    Raises:
        InputError: the file is missing, or users other than its owner can read it.
    """
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputError("others can read this key", where=str(path), remedy=f"chmod 600 {path}")
        return path.read_bytes()
    except OSError as err:
        raise InputError(f"cannot read: {err.strerror or err}", where=str(path), remedy="restore the file") from err
