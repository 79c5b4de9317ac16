"""Radiographs decoded once: fitted pixels on disk, memory-mapped, shared by processes, bounded in size.

An entry is `<sha256 of the image file>-<size>-v<transform>`: 32 bytes of SHA-256 over the pixels, then the pixels.
Nothing in the folder names a patient. Entries are written and removed under a lock file that also holds the total of
their bytes, so the bound holds however many processes write.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.disk import unwritable
from common.errors import ConfigError, ImageError
from common.learning.data.imaging.images import fit, is_blank, read_image
from common.learning.data.tables.table import Problems

TRANSFORM = 2
"""Version of `read_image` and `fit`; raise it when they give other pixels for the same file."""
_CHECKSUM = 32
# Share of the bound that an eviction leaves, so that not every write evicts.
_FILL = 0.9
# Begins the name of an entry that is being written.
_HALF = "."


class ImageCache:
    """Square uint8 radiographs by file content.

    Args:
        root: folder of the cache; made when absent, readable by its owner alone.
        size: side of the images in pixels.
        max_bytes: bound of all entries together; the least recently used go first.

    Raises:
        ConfigError: the bound is below one image.
        OutputError: the folder cannot be written.
    """

    def __init__(self, root: Path, size: int, max_bytes: int) -> None:
        if max_bytes < _CHECKSUM + size * size:
            raise ConfigError(
                f"{max_bytes} bytes do not hold one image of {size} x {size}",
                where="data.cache_bytes",
                remedy="raise it, or lower data.image_size",
            )

        self.root = root
        self.size = size
        self.max_bytes = max_bytes
        self._digests: dict[tuple[str, int, int], str] = {}
        self._lock = root / ".lock"
        with _on_disk(root):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.touch(mode=0o600)

    def fetch(self, image: Path) -> NDArray[np.uint8]:
        """Pixels of an image file, read-only `[size, size]`; decoded when they are not there or damaged.

        Raises:
            ImageError: the image cannot be read.
            OutputError: the entry cannot be written, for instance because the disk is full.
        """
        entry = self._entry(self.digest(image))
        pixels = self._map(entry)
        if pixels is None:
            self._write(entry, fit(read_image(image), self.size))
            pixels = self._map(entry)

        if pixels is None:  # another process evicted it at once, or removes it because a patient is forgotten
            pixels = fit(read_image(image), self.size)
            pixels.flags.writeable = False

        return pixels

    def warm(
        self,
        images: Iterable[Path],
        on_image: Callable[[int], None] | None = None,
        place: Callable[[int], str] = lambda index: f"image {index + 1}",
    ) -> None:
        """Decode all images that are not there yet, on all cores, and check that each shows something.

        A blank image is refused rather than counted: the model learns nothing from it, and all blank images look alike,
        so that their patients would be taken for one person.

        Args:
            images: image files.
            on_image: called with the number done after each.
            place: names the image at an index in an error, such as `Manifest.place`.

        Raises:
            ImageError: images that cannot be read or are blank; it names all their places.
            OutputError: an entry cannot be written.
        """
        problems = Problems()

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            pending = [pool.submit(self._ensure, image) for image in images]
            try:
                for index, future in enumerate(pending):
                    try:
                        future.result()
                    except ImageError as err:
                        problems.add(ImageError(err.problem, where=place(index), remedy=err.remedy))

                    if on_image is not None:
                        on_image(index + 1)
            finally:
                for future in pending:
                    future.cancel()

        problems.raise_any()

    def discard(self, images: Iterable[Path]) -> int:
        """Delete the pixels of image files, of all sizes, and return how many entries went.

        To be called while the files are still there: their content is the key.

        Raises:
            ImageError: a file is gone, so its pixels cannot be found.
            OutputError: an entry cannot be removed.
        """
        return self.discard_digests({self.digest(image) for image in images})

    def discard_digests(self, digests: Collection[str]) -> int:
        """Delete the pixels of image files by their SHA-256, of all sizes, and return how many entries went.

        Raises:
            OutputError: an entry cannot be removed.
        """
        self._digests = {key: digest for key, digest in self._digests.items() if digest not in digests}
        count = 0

        with self._locked() as total:
            for entry in list(self.root.iterdir()):
                if entry.name.removeprefix(_HALF).partition("-")[0] in digests:
                    total.add(-_remove(entry))
                    count += 1

        return count

    def digest(self, image: Path) -> str:
        """SHA-256 of a file, remembered while its path, size and time of change stay the same."""
        try:
            status = image.stat()
            key = (str(image), status.st_size, status.st_mtime_ns)
            if key not in self._digests:
                with image.open("rb") as file:
                    self._digests[key] = hashlib.file_digest(file, "sha256").hexdigest()

            return self._digests[key]
        except FileNotFoundError:
            raise ImageError("missing image file", remedy="check the path") from None
        except OSError:
            raise ImageError("the image cannot be opened", remedy="check its permissions") from None

    def _ensure(self, image: Path) -> None:
        """`fetch` without holding on to the map: the kernel bounds the number of maps of a process."""
        if is_blank(self.fetch(image)):
            raise ImageError(
                "blank image: one grey value fills it",
                remedy="export it with another window, or remove its row",
            )

    def _entry(self, digest: str) -> Path:
        return self.root / f"{digest}-{self.size}-v{TRANSFORM}"

    def _map(self, entry: Path) -> NDArray[np.uint8] | None:
        """The entry's pixels, or None when it is not there or not whole."""
        with _on_disk(self.root):
            try:
                with entry.open("rb") as file:
                    checksum = file.read(_CHECKSUM)
                    pixels = np.memmap(file, np.uint8, mode="r", offset=_CHECKSUM, shape=(self.size, self.size))

                os.utime(entry)  # its time of change is its last use, by which entries are evicted
            except (FileNotFoundError, ValueError):
                return None

        return pixels if hashlib.sha256(pixels.data).digest() == checksum else None

    def _write(self, entry: Path, pixels: NDArray[np.uint8]) -> None:
        values = pixels.tobytes()
        data = hashlib.sha256(values).digest() + values
        half = entry.with_name(_HALF + entry.name)

        with self._locked() as total:
            if self._map(entry) is not None:
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
        with _on_disk(self.root), self._lock.open("r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            text = file.read()
            total = _Total(file)
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


@contextmanager
def _on_disk(root: Path) -> Iterator[None]:
    """Turn what the disk refuses into an `OutputError`."""
    try:
        yield
    except OSError as err:
        remedy = "check its permissions, or choose another cache folder"
        raise unwritable(err, root, what="the image cache", remedy=remedy) from None
