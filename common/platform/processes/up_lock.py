"""The lock of a folder's `up`: only one runs at a time; the kernel, not a file's content, tells whether one does."""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from common.disk import unwritable
from common.errors import RefusedError

_LOCK_FILE = "up.lock"


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel releases it when the process ends, however it ends.

    Raises:
        RefusedError: another `up` holds it.
        OutputError: the folder cannot be written.
    """
    path = folder / _LOCK_FILE

    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise unwritable(err, path, remedy="check --dir and its owner") from None

    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(f"{folder}: another `up` runs in this folder: stop that one first") from None

        yield
    finally:
        os.close(handle)


def is_up(folder: Path) -> bool:
    """Whether an `up` holds the folder's lock."""
    with suppress(OSError), (folder / _LOCK_FILE).open("rb") as file:
        try:
            # A shared lock: two that only look do not take each other for a running `up`.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True

    return False


def start_command(side: Literal["server", "site"], folder: Path) -> str:
    """The command that starts the folder's `up`."""
    return shlex.join([f"fedforget-{side}", "up", "--dir", str(folder)])
