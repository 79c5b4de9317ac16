"""Radiographs from files: PNG, JPEG and DICOM as 8-bit greyscale, and fitted to a square."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from common.errors import ImageError
from common.learning.data.imaging.dicom import decode_dicom, is_dicom
from common.learning.data.imaging.dicom_display import to_uint8
from common.learning.data.imaging.image_limits import check_size, read_file

_HEAD = 132
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")
_BT_601 = (0.299, 0.587, 0.114)
# How Pillow unpacks PNG of 16 bits with colour or transparency, dropping each low byte; and what gives all bytes. Grey
# with alpha is read as four bytes; of the others first the high bytes are read, then the low ones.
_DEEP_COLOUR = {"LA;16B": ("RGBA",), "RGB;16B": ("RGB;16B", "RGB;16L"), "RGBA;16B": ("RGBA;16B", "RGBA;16L")}
# Share of one grey value within the borders from which a picture shows nothing.
_BLANK = 0.99


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a radiograph as greyscale `[height, width]`; the file's first bytes tell its format, not its name.

    Deeper than 8 bits it is scaled from its least to its greatest value, colour becomes luminance, transparency is
    left out, the EXIF orientation is applied.

    Raises:
        ImageError: the file is missing, damaged, truncated, too large to be a radiograph, or of another format. The
            message does not name it: the caller knows its row.
    """
    data = read_file(path)
    return decode_dicom(data) if is_dicom(data[:_HEAD]) else _decode_picture(data)


def fit(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize `[height, width]` to `[size, size]` by area averaging, aspect kept, centred on black."""
    height, width = image.shape
    scale = size / max(height, width)
    new_height = max(1, round(height * scale))
    new_width = max(1, round(width * scale))
    picture = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BOX)
    square = np.zeros((size, size), dtype=np.uint8)
    top = (size - new_height) // 2
    left_edge = (size - new_width) // 2
    square[top : top + new_height, left_edge : left_edge + new_width] = np.asarray(picture)

    return square


def is_blank(pixels: NDArray[np.uint8]) -> bool:
    """Does a picture show nothing: one grey value in at least 99 % of it, black borders left out?"""
    rows = np.flatnonzero(pixels.any(axis=1))
    columns = np.flatnonzero(pixels.any(axis=0))
    if not rows.size:
        return True
    inside = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    return bool(np.bincount(inside.ravel(), minlength=256).max() >= _BLANK * inside.size)


def _decode_picture(data: bytes) -> NDArray[np.uint8]:
    # Other libraries, e.g. WeasyPrint, switch this on for the whole process; half a radiograph must not pass for one.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            deep = _DEEP_COLOUR.get(str(picture.tile[0].args)) if picture.format == "PNG" and picture.tile else None
            sample_bytes = 2 if deep or picture.mode in _DEEP_MODES else 1
            check_size(*picture.size, sample_bytes * len(picture.getbands()), len(data))
            if picture.format == "PNG" and getattr(picture, "n_frames", 1) > 1:
                raise ImageError("PNG file with several frames", remedy="give one radiograph per file")
            if deep:
                return _stretched(_deep_luminance(data, deep))
            upright = ImageOps.exif_transpose(picture)
            if upright.mode in _DEEP_MODES:
                return _stretched(np.asarray(upright))
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


def _stretched(values: NDArray[Any]) -> NDArray[np.uint8]:
    return to_uint8(values.astype(np.float32), float(values.min()), float(values.max()))


def _deep_luminance(data: bytes, modes: tuple[str, ...]) -> NDArray[np.float32]:
    """Grey values `[height, width]` of 16 bits."""
    parts = [_unpacked(data, mode) for mode in modes]
    if len(parts) == 1:
        grey_and_alpha = parts[0].astype(np.float32)
        return grey_and_alpha[..., 0] * 256.0 + grey_and_alpha[..., 1]

    high, low = (part[..., :3].astype(np.float32) @ np.array(_BT_601, dtype=np.float32) for part in parts)

    return np.asarray(high * 256.0 + low)


def _unpacked(data: bytes, mode: str) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        picture.tile = [tile._replace(args=mode) for tile in picture.tile]
        return np.asarray(ImageOps.exif_transpose(picture))
