"""A full disk: one error for every writer, kept apart from all other reasons why a write fails."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from common.errors import DiskFullError, OutputError

# No space, no quota, or a limit of the process or the file system.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# Messages of libraries that pass no error number on, such as safetensors.
_TEXTS = ("No space left on device", "Disk quota exceeded", "File too large")
# MB of free space above which the cause is a quota or a limit, not the size of the disk.
_MUCH = 64.0
AGAIN = "free space there, then run the same command again: it continues where it stopped"


def is_full(err: BaseException) -> bool:
    """Whether an error means that there is no space left."""
    return (isinstance(err, OSError) and err.errno in _FULL) or any(text in str(err) for text in _TEXTS)


def unwritable(
    err: Exception, where: Path | str, *, remedy: str = "free space, or choose another folder", what: str = ""
) -> OutputError:
    """The error for a failed write; a `DiskFullError` if the disk is full.

    Args:
        err: the cause.
        where: the path that was to be written.
        remedy: what to do if the disk is not full.
        what: what was to be written, if the path does not say it.
    """
    if is_full(err):
        return disk_full(where, what)
    reason = err.strerror if isinstance(err, OSError) and err.strerror else err
    return OutputError(f"cannot write{f' {what}' if what else ''}: {reason}", where=str(where), remedy=remedy)


def disk_full(where: Path | str, what: str = "", *, remedy: str = AGAIN) -> DiskFullError:
    """The error for a full disk at `where`; says how much space is left."""
    problem = f"the disk is full{_left(Path(where))}: {what or 'this'} was not written"
    return DiskFullError(problem, where=str(where), remedy=remedy)


def _left(path: Path) -> str:
    """How much space is left, in words; if there is plenty, the limit is not the size of the disk."""
    # The folder itself may not exist yet; free space is that of the nearest one that does.
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
