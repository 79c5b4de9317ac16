"""Radiographs from files: PNG, JPEG and DICOM as 8-bit greyscale, and fitted to a square."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from common.data.dicom import read_dicom, to_uint8
from common.errors import ImageError

_DICOM_MAGIC = slice(128, 132)  # PS3.10 7.1
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a radiograph as greyscale `[height, width]`; the file's first bytes tell its format, not its name.

    Greyscale deeper than 8 bit is scaled from its least to its greatest value, colour becomes luminance, the EXIF
    orientation is applied.

    Raises:
        ImageError: the file is missing, damaged, truncated, too large to be a radiograph, or of another format. The
            message does not name it: the caller knows its row.
    """
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError as err:
        problem = "missing image file" if isinstance(err, FileNotFoundError) else "the image cannot be opened"
        raise ImageError(problem, remedy="check the path and its permissions") from None
    if head[_DICOM_MAGIC] == b"DICM":
        return read_dicom(path)
    return _read_picture(path)


def fit(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize `[height, width]` to `[size, size]` by area averaging, aspect kept, centred on black."""
    height, width = image.shape
    scale = size / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    resized = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BOX)
    square = np.zeros((size, size), dtype=np.uint8)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    square[top : top + new_height, left : left + new_width] = np.asarray(resized)
    return square


def _read_picture(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode in _DEEP_MODES:
                values = np.asarray(upright, dtype=np.float64)
                return to_uint8(values, float(values.min()), float(values.max()))
            return np.array(upright.convert("L"), dtype=np.uint8)
    except UnidentifiedImageError:
        raise ImageError("not a PNG, JPEG or DICOM image", remedy="convert it, or remove its row") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(
            "the image is too large to be a radiograph", remedy=f"at most {Image.MAX_IMAGE_PIXELS} pixels are read"
        ) from None
    # Pillow raises SyntaxError on broken PNG chunks.
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error):
        raise ImageError("damaged image file", remedy="export the image again, or remove its row") from None
