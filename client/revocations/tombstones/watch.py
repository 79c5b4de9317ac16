"""Who is stopped, according to the tombstones now. Running loaders ask before every batch, so a call must be cheap.

The file stays open and is asked for its state: size and times show additions, the number of links shows that it was
deleted or replaced. Resolving its path takes several times as long when a processor's caches are full of images. Only
that reveals a moved parent folder, so the path is resolved again every second.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple

from client.revocations.tombstones.file import TombstoneFile
from client.revocations.tombstones.tombstone import TombstoneMap
from common.errors import CohortError

_WALK_AGAIN = 1.0
"""Seconds."""

_Stamp = tuple[int, int, int]

_stamp: Callable[[os.stat_result], _Stamp] = attrgetter("st_size", "st_ctime_ns", "st_nlink")
"""Changes when a file is written to, renamed, replaced or deleted."""


class _OpenFile:
    """An open file, which is closed when no thread refers to it any more."""

    __slots__ = ("handle", "number")

    def __init__(self, path: str) -> None:
        self.handle = os.open(path, os.O_RDONLY)
        file_status = os.fstat(self.handle)
        # Device and inode: another file in this one's place has others.
        self.number = file_status.st_dev, file_status.st_ino

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)


class _LastRead(NamedTuple):
    """The last read: a tuple, because threads can read it atomically without a lock, and unpacking is fast."""

    file: _OpenFile
    stamp: _Stamp
    walk_at: float
    """When to resolve the path again."""
    patients: frozenset[str]
    end: int
    """Of what was read."""


class TombstoneWatch:
    """Reads only additions. Threads may share it."""

    def __init__(self, file: TombstoneFile) -> None:
        self._file, self._path, self._lock = file, os.fspath(file.path), threading.Lock()
        self._last_read: _LastRead | None = None
        self._standing: TombstoneMap = {}

    def now(self) -> frozenset[str]:
        """Pseudonyms of stopped patients; the same object while nothing changes.

        Raises:
            CohortError: the file is damaged, made with another secret, or has disappeared.
        """
        # Without the lock: every batch of every loader comes by here.
        if self._last_read is not None:
            file, stamp, walk_at, patients, _ = self._last_read
            if _stamp(os.fstat(file.handle)) == stamp and time.monotonic() < walk_at:
                return patients

        with self._lock:
            return self._look()

    def _look(self) -> frozenset[str]:
        last = self._last_read
        walk_at = time.monotonic() + _WALK_AGAIN
        file = self._walked_to()
        if file is None and last is None:
            return frozenset()
        # Where nobody has revoked there is no file. Where there was one, its loss must not set patients free.
        if file is None:
            raise CohortError("gone", where=self._path, remedy="restore it; nothing is trained until then")
        # The stamp is taken before the content: the next call finds what was added in between.
        stamp = _stamp(os.fstat(file.handle))
        # Another file, or a shorter one: what was read before may not be in it.
        again = last is None or file.number != last.file.number or stamp[0] < last.end
        if last is not None and not again and stamp == last.stamp:
            self._last_read = last._replace(walk_at=walk_at)
            return last.patients

        start, standing = (0, {}) if again or last is None else (last.end, self._standing)
        end = self._file.read_on(start, standing)
        self._standing = standing
        patients = frozenset(pseudonym for pseudonym, _ in standing)
        self._last_read = _LastRead(file, stamp, walk_at, patients, end)

        return patients

    def _walked_to(self) -> _OpenFile | None:
        """The file at the path now."""
        try:
            return _OpenFile(self._path)
        except FileNotFoundError:
            return None
        except OSError as err:
            raise CohortError(
                f"cannot be read: {err.strerror}", where=self._path, remedy="check its permissions"
            ) from None
