"""A disk that takes no more: one error for every writer, apart from all other reasons why something is not written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from common.errors import DiskFullError, OutputError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No space, no quota, and a limit of the process or of the file system."""
_TEXTS = ("No space left on device", "Disk quota exceeded", "File too large")
"""Of libraries that hand on no number, such as safetensors."""
_MUCH = 64.0
"""MB."""
AGAIN = "free space there, then do the same again: it goes on where it stopped"


def is_full(err: BaseException) -> bool:
    """Whether it was for want of space."""
    return (isinstance(err, OSError) and err.errno in _FULL) or any(text in str(err) for text in _TEXTS)


def unwritable(
    err: Exception, where: Path | str, *, remedy: str = "free space, or choose another folder", what: str = ""
) -> OutputError:
    """The error for what a disk refuses: of its own kind where the disk is full.

    Args:
        remedy: where it is not full.
        what: was to be written, where the place does not say it.
    """
    if is_full(err):
        return disk_full(where, what)
    reason = err.strerror if isinstance(err, OSError) and err.strerror else err
    return OutputError(f"cannot write{f' {what}' if what else ''}: {reason}", where=str(where), remedy=remedy)


def disk_full(where: Path | str, what: str = "", *, remedy: str = AGAIN) -> DiskFullError:
    """The disk that holds `where` is full; says how much of it is left."""
    problem = f"the disk is full{_left(Path(where))}: {what or 'this'} was not written"
    return DiskFullError(problem, where=str(where), remedy=remedy)


def _left(path: Path) -> str:
    """How much of it is left, in words; where there is much, the limit is another one than the disk's size."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        status = os.statvfs(path)
    except OSError:
        return ""

    free, whole = (blocks * status.f_frsize / 2**20 for blocks in (status.f_bavail, status.f_blocks))
    if free > _MUCH:
        return f" for this account ({free:.0f} MB are free: look for a quota, or a limit of this process)"
    return f" ({free:.1f} of {whole:.0f} MB left)"
