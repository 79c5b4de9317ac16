"""A folder of cached entries that are named after digests: bounded in bytes, shared by processes, each entry whole.

An entry's name is `<digest>-<what else it depends on>-v<version>`. Entries are written and removed under a lock file
that also holds the total of their bytes, so the bound holds however many processes write.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from common.disk import unwritable

CHECKSUM = 32
"""Bytes of SHA-256 over the values, before them."""
# Share of the bound that an eviction leaves, so that not every write evicts.
_FILL = 0.9
# Begins the name of an entry that is being written.
_HALF = "."


class EntryFolder:
    """Entries of at most `max_bytes` together; the least recently used go first.

    Args:
        root: made when absent, readable by its owner alone.
        max_bytes: bound of all entries together.
        what: the folder's content, for messages: `the image cache`.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, root: Path, max_bytes: int, what: str) -> None:
        self.root = root
        self.max_bytes = max_bytes
        self._what = what
        self._lock = root / ".lock"
        with self.on_disk():
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.touch(mode=0o600)

    def write(self, name: str, values: bytes, is_whole: Callable[[Path], bool]) -> None:
        """Write an entry unless it is there and whole.

        Raises:
            OutputError: it cannot be written, for instance because the disk is full.
        """
        entry = self.root / name
        half = entry.with_name(_HALF + name)
        data = hashlib.sha256(values).digest() + values

        with self._locked() as total:
            # Another process may have written it while this one waited for the lock.
            if is_whole(entry):
                return
            total.add(-_remove(entry))
            if total.bytes + len(data) > self.max_bytes:
                total.set(self._evict(len(data)))
            # Counted before it is there: a process that is killed in between leaves the total too high, never too low.
            total.add(len(data))
            try:
                half.touch(mode=0o600)
                half.write_bytes(data)
                half.replace(entry)
            except OSError:
                half.unlink(missing_ok=True)
                total.add(-len(data))
                raise

    def discard(self, digests: Collection[str]) -> int:
        """Delete all entries of these digests, and return how many went.

        Raises:
            OutputError: an entry cannot be removed.
        """
        count = 0

        with self._locked() as total:
            # What a killed process left half-written goes as well.
            for entry in list(self.root.iterdir()):
                if entry.name.removeprefix(_HALF).partition("-")[0] in digests:
                    total.add(-_remove(entry))
                    count += 1

        return count

    @contextmanager
    def on_disk(self) -> Iterator[None]:
        """Turn what the disk refuses into an `OutputError`."""
        try:
            yield
        except OSError as err:
            remedy = "check its permissions, or choose another cache folder"
            raise unwritable(err, self.root, what=self._what, remedy=remedy) from None

    def _evict(self, room: int) -> int:
        """Remove the least recently used entries until `room` bytes are free; returns the bytes that are left."""
        entries = []

        for entry in self.root.glob("*-v*"):
            if entry.name.startswith(_HALF):
                entry.unlink()  # of a process that was killed: nobody else writes under the lock
            else:
                status = entry.stat()
                entries.append((status.st_mtime_ns, status.st_size, entry))

        used = sum(size for _, size, _ in entries)
        # The total in the lock file may be too high, after a kill; the folder itself decides.
        if used + room <= self.max_bytes:
            return used
        for _, size, entry in sorted(entries):
            if used + room <= self.max_bytes * _FILL:
                break
            entry.unlink()
            used -= size

        return used

    @contextmanager
    def _locked(self) -> Iterator[_Total]:
        """Hold the folder against other writers, be they threads or processes."""
        with self.on_disk(), self._lock.open("r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            text = file.read()
            total = _Total(file)
            # A lock file without a number is new, or damaged: the folder is counted.
            total.set(int(text) if text.isdigit() else self._evict(0))
            yield total


class _Total:
    """Bytes of all entries, kept in the lock file."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.bytes = 0

    def set(self, value: int) -> None:
        self.bytes = max(value, 0)
        os.pwrite(self._file.fileno(), b"%020d" % self.bytes, 0)

    def add(self, value: int) -> None:
        self.set(self.bytes + value)


def _remove(entry: Path) -> int:
    """Remove an entry if it is there; returns its bytes."""
    try:
        size = entry.stat().st_size
        entry.unlink()
    except FileNotFoundError:
        return 0

    return size
