"""Files in a folder that others write to: read once, and moved only if they have not changed since."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import FedForgetError, InputError, UnavailableError
from common.files import write_durable

_OTHER_KINDS = frozenset({errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR, errno.ENOTDIR})
"""Errors of a link, a socket or a folder in a file's place."""
_TAKEN = re.compile(r"\.(.+)\.taken")


@dataclass(frozen=True, slots=True)
class ReadFile:
    """The content of a file and its identity."""

    content: bytes = field(repr=False)
    device: int
    number: int
    changed_at: float

    def is_still(self, path: Path) -> bool:
        """Whether `path` is the same file with the same content."""
        try:
            now = read_file(path, len(self.content))
        except (OSError, FedForgetError):
            return False

        return (now.device, now.number, now.content) == (self.device, self.number, self.content)


def read_file(path: Path, most: int) -> ReadFile:
    """Read a regular file of limited size. Links are refused: they could lead to a file that the sender may not read.

    Raises:
        FileNotFoundError: there is none.
        InputError: something else is there, or it is too large.
        UnavailableError: it cannot be read now, for want of access or because the disk fails.
    """
    try:
        # Without O_NONBLOCK, a pipe in the file's place would block the process.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InputError("not a regular file")
            content = file.read(most + 1)
    except FileNotFoundError:
        raise
    except OSError as err:
        if err.errno in _OTHER_KINDS:
            raise InputError(f"cannot be read: {err.strerror}") from None
        raise UnavailableError(f"{path.name} cannot be read: {err.strerror}") from None

    if len(content) > most:
        raise InputError(f"more than {most} bytes")
    return ReadFile(content, status.st_dev, status.st_ino, status.st_mtime)


def take_away(file: Path, target: Path, original: ReadFile | None) -> None:
    """Move a file that was read to `target`. A file that has replaced it stays; an unreadable one is moved.

    It is compared under a private name, since it may be replaced until then.
    """
    taken_file = file.with_name(f".{file.name}.taken")

    try:
        os.replace(file, taken_file)
    except FileNotFoundError:
        pass
    else:
        if original is None or original.is_still(taken_file):
            os.replace(taken_file, target)
            return

    if original is not None:
        write_durable(target, original.content)
    give_back(file.parent)


def give_back(folder: Path) -> None:
    """Put back a file that was moved but differs from what was read, or that a killed process left."""
    for name in os.listdir(folder):
        if (match := _TAKEN.fullmatch(name)) is not None:
            with suppress(FileExistsError):  # a third file has replaced it
                # A link fails where a file of this name is there. A rename would replace it.
                os.link(folder / name, folder / match[1], follow_symlinks=False)
            os.unlink(folder / name)
