"""Who is stopped as the tombstones stand now; running loaders ask before every batch, so that asking must cost little.

The file is held open and asked for its state: size and times tell that something was added, the number of its links
that it is gone or another took its place. To walk its path is several times as long where a processor's caches are full
of images; that a folder above it was moved shows there alone, and so it is walked again every second.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple

from client.revocations.tombstones.file import TombstoneFile, TombstoneMap
from common.errors import CohortError

_WALK_AGAIN = 1.0
"""Seconds."""

_Stamp = tuple[int, int, int]

_stamp: Callable[[os.stat_result], _Stamp] = attrgetter("st_size", "st_ctime_ns", "st_nlink")
"""Differs when a file was written to, renamed, replaced or deleted."""


class _Held:
    """An open file, which is closed when nobody, of whatever thread, refers to it any more."""

    __slots__ = ("handle", "number")

    def __init__(self, path: str) -> None:
        self.handle = os.open(path, os.O_RDONLY)
        found = os.fstat(self.handle)
        self.number = found.st_dev, found.st_ino

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)


class _Seen(NamedTuple):
    """What was read last: a tuple, as threads take it whole without a lock, and as nothing is faster to open."""

    held: _Held
    stamp: _Stamp
    walk_at: float
    """When the path is to be walked again."""
    stopped: frozenset[str]
    end: int
    """Of what was read."""


class TombstoneWatch:
    """Reads only what was added, when something was. Threads may share it."""

    def __init__(self, file: TombstoneFile) -> None:
        self._file, self._path, self._lock = file, os.fspath(file.path), threading.Lock()
        self._seen: _Seen | None = None
        self._standing: TombstoneMap = {}

    def now(self) -> frozenset[str]:
        """Pseudonyms; the same object for as long as nothing is changed.

        Raises:
            CohortError: damaged, made with another secret, or gone after it was there.
        """
        if self._seen is not None:
            held, stamp, walk_at, stopped, _ = self._seen
            if _stamp(os.fstat(held.handle)) == stamp and time.monotonic() < walk_at:
                return stopped

        with self._lock:
            return self._look()

    def _look(self) -> frozenset[str]:
        seen = self._seen
        walk_at = time.monotonic() + _WALK_AGAIN
        held = self._walked_to()
        if held is None and seen is None:
            return frozenset()
        if held is None:
            raise CohortError("gone", where=self._path, remedy="restore it; nothing is trained before")
        # The stamp is taken before the content: what is added in between is found at the next call at the latest.
        stamp = _stamp(os.fstat(held.handle))
        again = seen is None or held.number != seen.held.number or stamp[0] < seen.end
        if seen is not None and not again and stamp == seen.stamp:
            self._seen = seen._replace(walk_at=walk_at)
            return seen.stopped

        start, standing = (0, {}) if again or seen is None else (seen.end, self._standing)
        end, content = self._file.lines_since(start)
        self._file.apply(content, standing, with_header=start == 0)
        self._standing = standing
        stopped = frozenset(pseudonym for pseudonym, _ in standing)
        self._seen = _Seen(held, stamp, walk_at, stopped, end)

        return stopped

    def _walked_to(self) -> _Held | None:
        """The file to which the path leads now."""
        try:
            return _Held(self._path)
        except FileNotFoundError:
            return None
        except OSError as err:
            raise CohortError(
                f"cannot be read: {err.strerror}", where=self._path, remedy="check its permissions"
            ) from None
