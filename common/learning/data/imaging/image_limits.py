"""How large an image may be: checked by what the file says of itself, before anything is unpacked."""

from __future__ import annotations

import stat
from pathlib import Path

from common.errors import ImageError

MAX_PIXELS = 2**26
"""More pixels than any radiograph has (8192 x 8192)."""
MAX_FILE_BYTES = 2**28
"""As many as the most pixels take with 32 bits each, uncompressed."""
MAX_GROWTH = 200
"""A radiograph has noise: lossless compression makes it 2 to 5 times smaller, never hundreds of times."""
# Bytes that any file may unpack to, so that small made-up images need not be noisy.
_ALWAYS = 2**24


def read_file(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        ImageError: it is missing, not a regular file, or larger than any radiograph.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("the image is not a regular file", remedy="check the path")
        if status.st_size > MAX_FILE_BYTES:
            raise ImageError(f"image file of more than {MAX_FILE_BYTES} bytes", remedy="check that it is a radiograph")
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError("missing image file", remedy="check the path") from None
    except OSError:
        raise ImageError("the image cannot be opened", remedy="check the path and its permissions") from None


def most_bytes(file_bytes: int) -> int:
    """How many bytes a file of this size may unpack to."""
    return min(max(_ALWAYS, MAX_GROWTH * file_bytes), 8 * MAX_PIXELS)


def check_size(width: int, height: int, bytes_per_pixel: int, file_bytes: int) -> None:
    """Raise an `ImageError` unless a picture of this size may be unpacked from a file of `file_bytes`."""
    if width * height > MAX_PIXELS:
        raise ImageError(f"image of more than {MAX_PIXELS} pixels", remedy="check that it is a radiograph")
    check_growth(width * height * bytes_per_pixel, file_bytes)


def check_growth(unpacked_bytes: int, file_bytes: int) -> None:
    """Raise an `ImageError` if a file of `file_bytes` may not unpack to `unpacked_bytes`."""
    if unpacked_bytes > most_bytes(file_bytes):
        raise ImageError(
            f"the image grows more than {MAX_GROWTH} times when it is unpacked",
            remedy="check that it is a radiograph, or remove its row",
        )
