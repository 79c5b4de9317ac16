"""Radiographs in DICOM, shown as a radiologist would see them (PS3.3 C.11: modality LUT, VOI LUT, presentation)."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_windowing
from pydicom.pixels.utils import pixel_array
from pydicom.uid import JPEGExtended12Bit

from common.errors import ImageError

MAX_PIXELS = 2**26
"""More pixels than any radiograph has; a header that claims more is not believed."""

# Names, dates and numbers of the patient are never even read.
_TAGS = [
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "VOILUTSequence", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData",
]  # fmt: skip

_DAMAGED = (
    ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError, RuntimeError, OverflowError,
    OSError, EOFError, struct.error,
)  # fmt: skip
"""What pydicom and its codecs raise on files that break the standard. Their texts may quote the file: never shown."""


def read_dicom(path: Path) -> NDArray[np.uint8]:
    """Read one radiograph as displayed, 0 black and 255 white, `[height, width]`.

    Rescale or modality LUT, then the first VOI LUT or window, otherwise from the least to the greatest value that is
    not padding; MONOCHROME1 is inverted, padding is black, colour becomes luminance (ITU-R BT.601).

    Raises:
        ImageError: the file is missing, damaged, has several frames, or needs a codec that is not installed.
    """
    try:
        # Read from memory, since pydicom's warnings name the file it reads.
        dataset = dcmread(io.BytesIO(path.read_bytes()), specific_tags=list(_TAGS))
        _check(dataset)
        stored = pixel_array(dataset)
        if dataset.SamplesPerPixel == 3:
            return _luminance(stored, dataset)
        return _displayed(_stored_values(stored, dataset), dataset)
    except FileNotFoundError:
        raise ImageError("missing image file", remedy="check the path") from None
    except (InvalidDicomError, *_DAMAGED):
        raise ImageError("damaged DICOM file", remedy="export the image again, or remove its row") from None


def _check(dataset: Dataset) -> None:
    if "PixelData" not in dataset:
        raise ImageError("DICOM file without pixels", remedy="remove its row")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ImageError("DICOM file with several frames", remedy="give one radiograph per file")
    if int(dataset.Rows) * int(dataset.Columns) > MAX_PIXELS:
        raise ImageError(f"image of more than {MAX_PIXELS} pixels", remedy="check that it is a radiograph")
    if dataset.PhotometricInterpretation == "PALETTE COLOR" or dataset.SamplesPerPixel not in (1, 3):
        raise ImageError("DICOM file with palette colours", remedy="export the radiograph in greyscale")
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ImageError(f"{syntax.name} is not an image compression we read", remedy="export it again") from None
    if syntax == JPEGExtended12Bit and int(dataset.BitsStored) > 8:
        raise ImageError("12-bit lossy JPEG is not read", remedy="export it as JPEG lossless or uncompressed")
    if not decoder.is_available:
        # GDCM has no high-throughput JPEG 2000; every other codec is in python-gdcm (Apache-2.0 and BSD).
        package = "pylibjpeg pylibjpeg-openjpeg" if "High-Throughput" in syntax.name else "python-gdcm"
        raise ImageError(f"no codec for {syntax.name} is installed", remedy=f"pip install {package}")


def _stored_values(pixels: NDArray[Any], dataset: Dataset) -> NDArray[np.int64]:
    """Drop what old overlays left in the bits above High Bit (PS3.5 8.1.1); codecs do that themselves."""
    values: NDArray[np.int64] = pixels.astype(np.int64)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        return values
    bits = int(dataset.BitsStored)
    values = (values >> (int(dataset.HighBit) + 1 - bits)) & (2**bits - 1)
    if dataset.PixelRepresentation == 1:
        values[values >= 2 ** (bits - 1)] -= 2**bits
    return values


def _displayed(stored: NDArray[np.int64], dataset: Dataset) -> NDArray[np.uint8]:
    padding = _padding(stored, dataset)
    values = _modality(stored, dataset)
    black, white = 0.0, 0.0
    if dataset.get("VOILUTSequence"):
        values, black, white = _voi_lut(values, dataset)
    elif _has_window(dataset):
        values, black, white = _window(values, dataset)
    if black == white:
        inside = values[~padding]
        black, white = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
    grey = to_uint8(values, black, white)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    grey[padding] = 0
    return grey


def to_uint8(values: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    """Map `black..white` to 0..255, linear and clipped; a range without extent gives zeros."""
    if black == white:
        return np.zeros(values.shape, dtype=np.uint8)
    return np.asarray(np.rint(np.clip((values - black) / (white - black), 0.0, 1.0) * 255.0)).astype(np.uint8)


def _padding(stored: NDArray[np.int64], dataset: Dataset) -> NDArray[np.bool_]:
    """Where the image is padded (PS3.3 C.7.5.1.1.2); values are compared as stored."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(value), int(value if limit is None else limit)))
    return np.asarray((stored >= low) & (stored <= high))


def _modality(stored: NDArray[np.int64], dataset: Dataset) -> NDArray[np.float64]:
    if dataset.get("ModalityLUTSequence"):
        return _look_up(stored, dataset.ModalityLUTSequence[0], dataset)
    values = stored.astype(np.float64)
    if dataset.get("RescaleSlope") is not None and dataset.get("RescaleIntercept") is not None:
        values *= float(dataset.RescaleSlope)
        values += float(dataset.RescaleIntercept)
    return values


def _voi_lut(values: NDArray[np.float64], dataset: Dataset) -> tuple[NDArray[np.float64], float, float]:
    item = dataset.VOILUTSequence[0]
    # Many tables declare 16 bits and fill 12: white is the greatest entry, not the declared depth.
    return _look_up(values, item, dataset), 0.0, float(_entries(item, dataset).max())


def _look_up(values: NDArray[Any], item: Dataset, dataset: Dataset) -> NDArray[np.float64]:
    """PS3.3 C.11.1.1: values below and above the table take its first and last entry."""
    entries = _entries(item, dataset)
    index = np.clip(np.rint(values).astype(np.int64) - int(item.LUTDescriptor[1]), 0, len(entries) - 1)
    return np.asarray(entries[index])


def _entries(item: Dataset, dataset: Dataset) -> NDArray[np.float64]:
    data = item.LUTData
    count = int(item.LUTDescriptor[0]) or 2**16
    if isinstance(data, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        data = np.frombuffer(data, dtype=np.uint8 if len(data) < 2 * count else f"{order}u2")
    return np.asarray(data, dtype=np.float64)[:count]


def _has_window(dataset: Dataset) -> bool:
    """Whether there is a window that can be applied; a width that the standard forbids counts as none."""
    if not dataset.get("VOILUTFunction"):
        dataset.VOILUTFunction = "LINEAR"
    width, center = dataset.get("WindowWidth"), dataset.get("WindowCenter")
    if width is None or center is None:
        return False
    least = 1.0 if dataset.VOILUTFunction == "LINEAR" else 1e-6
    return float(width[0] if dataset["WindowWidth"].VM > 1 else width) >= least


def _window(values: NDArray[np.float64], dataset: Dataset) -> tuple[NDArray[np.float64], float, float]:
    """Apply the first window; the ends of its range are what it makes of values far below and far above."""
    with np.errstate(over="ignore"):
        ends = apply_windowing(np.array([-1e12, 1e12]), dataset)
        windowed = apply_windowing(values, dataset)
    return np.asarray(windowed), float(ends[0]), float(ends[1])


def _luminance(pixels: NDArray[Any], dataset: Dataset) -> NDArray[np.uint8]:
    white = float(2 ** int(dataset.BitsStored) - 1)
    return to_uint8(pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114]), 0.0, white)
