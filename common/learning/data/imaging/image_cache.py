"""Radiographs decoded once: fitted pixels on disk, memory-mapped, shared by processes, bounded in size.

An entry is `<sha256 of the image file>-<size>-v<transform>`: 32 bytes of SHA-256 over the pixels, then the pixels.
Nothing in the folder names a patient.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError, ImageError
from common.learning.data.entry_folder import CHECKSUM, EntryFolder
from common.learning.data.imaging.images import fit, is_blank, read_image
from common.learning.data.tables.table import Problems

TRANSFORM = 2
"""Version of `read_image` and `fit`; raise it when they give other pixels for the same file."""


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
        if max_bytes < CHECKSUM + size * size:
            raise ConfigError(
                f"{max_bytes} bytes do not hold one image of {size} x {size}",
                where="data.cache_bytes",
                remedy="raise it, or lower data.image_size",
            )

        self.root = root
        self.size = size
        self._digests: dict[tuple[str, int, int], str] = {}
        self._entries = EntryFolder(root, max_bytes, "the image cache")

    def fetch(self, image: Path) -> NDArray[np.uint8]:
        """Pixels of an image file, read-only `[size, size]`; decoded when they are not there or damaged.

        Raises:
            ImageError: the image cannot be read.
            OutputError: the entry cannot be written, for instance because the disk is full.
        """
        entry = self._entry(self.digest(image))
        pixels = self._map(entry)
        if pixels is None:
            values = fit(read_image(image), self.size).tobytes()
            self._entries.write(entry.name, values, lambda path: self._map(path) is not None)
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
        return self._entries.discard(digests)

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
        import torch  # noqa: PLC0415 - seconds of import, and only those who look at pixels need it

        with self._entries.on_disk():
            try:
                with entry.open("rb") as file:
                    checksum = file.read(CHECKSUM)
                # Not `np.memmap`: each of its maps keeps a descriptor, and a cohort has more studies than a process may
                # have descriptors.
                whole = torch.from_file(str(entry), size=CHECKSUM + self.size**2, dtype=torch.uint8).numpy()
                os.utime(entry)  # its time of change is its last use, by which entries are evicted
            except (FileNotFoundError, RuntimeError):
                return None

        pixels: NDArray[np.uint8] = whole[CHECKSUM:].reshape(self.size, self.size)
        pixels.flags.writeable = False

        return pixels if hashlib.sha256(pixels.data).digest() == checksum else None
