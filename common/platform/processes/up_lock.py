"""The lock of a folder's `up`: only one runs at a time; the kernel, not a file's content, tells whether one does.

`up --only PROCESS` shares the folder's lock with others like it, and has a lock of its own.
"""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal

from common.disk import unwritable
from common.errors import RefusedError

_LOCK_FILE = "up.lock"
_LOCKS_OF_PROCESSES = "up-*.lock"


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel releases it when the process ends, however it ends.

    Raises:
        RefusedError: another `up` holds it.
        OutputError: the folder cannot be written.
    """
    with _locked(
        folder / _LOCK_FILE, fcntl.LOCK_EX, f"{folder}: another `up` runs in this folder: stop that one first"
    ):
        yield


@contextmanager
def only_one_of(folder: Path, process: str) -> Iterator[None]:
    """Hold the lock of one process of a folder. No whole `up` runs meanwhile.

    Raises:
        RefusedError: a whole `up`, or another `up --only` of this process, runs.
        OutputError: the folder cannot be written.
    """
    with ExitStack() as stack:
        whole = f"{folder}: `up` runs in this folder without --only: stop that one first"
        stack.enter_context(_locked(folder / _LOCK_FILE, fcntl.LOCK_SH, whole))
        same = f"{folder}: another `up --only {process}` runs: stop that one first"
        stack.enter_context(_locked(folder / f"up-{process}.lock", fcntl.LOCK_EX, same))
        yield


@contextmanager
def _locked(path: Path, kind: int, refusal: str) -> Iterator[None]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise unwritable(err, path, remedy="check --dir and its owner") from None

    try:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(refusal) from None

        yield
    finally:
        os.close(handle)


def is_up(folder: Path) -> bool:
    """Whether an `up`, whole or of one process, holds a lock of the folder."""
    return any(_is_held(path) for path in (folder / _LOCK_FILE, *folder.glob(_LOCKS_OF_PROCESSES)))


def _is_held(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        try:
            # A shared lock: two that only look do not take each other for a running `up`.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True

    return False


def start_command(side: Literal["server", "site"], folder: Path) -> str:
    """The command that starts the folder's `up`."""
    return shlex.join([f"fedforget-{side}", "up", "--dir", str(folder)])
