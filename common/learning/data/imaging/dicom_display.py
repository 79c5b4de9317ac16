"""Stored values of a radiograph as a radiologist would see them (PS3.3 C.11: modality LUT, VOI LUT, presentation).

Every step maps one stored value to one grey value. So the steps run once over the values that can occur, at most
65,536, and the image is looked up in the result: no step holds a picture of floating-point numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from common.errors import ImageError
from common.learning.data.imaging.dicom_numbers import decimals, first_decimal

Values = NDArray[np.float64]


def display(codes: NDArray[Any], values: NDArray[np.int64], dataset: Dataset) -> NDArray[np.uint8]:
    """Grey values of an image, 0 black and 255 white.

    Rescale or modality LUT, then the first VOI LUT or window, otherwise from the least to the greatest value that is
    not padding; MONOCHROME1 is inverted, padding is black.

    Args:
        codes: `[height, width]`, positions in `values`.
        values: stored values, `[n]`.
        dataset: the header.

    Raises:
        ImageError: the rescale cannot be read, or is 0.
    """
    padding = _padding(values, dataset)
    modality_values = _modality(values, dataset)
    window = None

    if dataset.get("VOILUTSequence"):
        grey = _voi_lut(modality_values, dataset)
    elif (window := _window(dataset)) is not None:
        grey = _windowed(modality_values, *window)
    else:
        occurring = np.bincount(codes.ravel(), minlength=len(values)) > 0
        grey = _full_range(modality_values, occurring & ~padding)

    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    # After the inversion, or padding of MONOCHROME1 would turn white.
    grey[padding] = 0

    return np.asarray(grey[codes])


def to_uint8(values: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    """Map `black..white` to 0..255, linear and clipped; a range without extent gives zeros."""
    if black == white:
        return np.zeros(values.shape, dtype=np.uint8)
    with np.errstate(over="ignore"):
        return np.asarray(np.rint(np.clip((values - black) / (white - black), 0.0, 1.0) * 255.0)).astype(np.uint8)


def _full_range(values: Values, is_counted: NDArray[np.bool_]) -> NDArray[np.uint8]:
    inside = values[is_counted]
    black, white = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
    return to_uint8(values, black, white)


def _padding(values: NDArray[np.int64], dataset: Dataset) -> NDArray[np.bool_]:
    """Where the image is padded (PS3.3 C.7.5.1.1.2); values are compared as stored."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(values.shape, dtype=np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = [int(value), int(value if limit is None else limit)]
    if dataset.PixelRepresentation == 1:
        # The same 16 bits, read as unsigned.
        ends = [end - 2**16 if 2**15 <= end < 2**16 else end for end in ends]

    return np.asarray((values >= min(ends)) & (values <= max(ends)))


def _modality(values: NDArray[np.int64], dataset: Dataset) -> Values:
    if dataset.get("ModalityLUTSequence"):
        return _look_up(values, dataset.ModalityLUTSequence[0], dataset)
    slope = _rescale(dataset, "RescaleSlope", 1.0)
    intercept = _rescale(dataset, "RescaleIntercept", 0.0)

    if slope == 0.0:
        raise ImageError(
            "the rescale slope is 0: the image would be blank", remedy="export the image again, or remove its row"
        )

    return values.astype(np.float64) * slope + intercept


def _rescale(dataset: Dataset, keyword: str, otherwise: float) -> float:
    try:
        values = decimals(dataset, keyword)
    except ValueError:
        raise ImageError(f"{keyword} is not a number", remedy="correct the header, or remove the row") from None

    return values[0] if values else otherwise


def _voi_lut(values: Values, dataset: Dataset) -> NDArray[np.uint8]:
    item = dataset.VOILUTSequence[0]
    # Many tables declare 16 bits and fill 12: white is the greatest entry, not the declared depth.
    return to_uint8(_look_up(values, item, dataset), 0.0, float(_entries(item, dataset).max()))


def _look_up(values: NDArray[Any], item: Dataset, dataset: Dataset) -> Values:
    """PS3.3 C.11.1.1: values below and above the table take its first and last entry."""
    entries = _entries(item, dataset)
    first = int(item.LUTDescriptor[1])
    index = np.clip(np.rint(values) - first, 0, len(entries) - 1).astype(np.int64)

    return np.asarray(entries[index])


def _entries(item: Dataset, dataset: Dataset) -> Values:
    data = item.LUTData
    # A descriptor of 16 bits writes 65,536 entries as 0 (PS3.3 C.11.1.1.1).
    count = int(item.LUTDescriptor[0]) or 2**16
    if isinstance(data, bytes):
        order = "<" if dataset.original_encoding[1] else ">"
        # Too few bytes for entries of 16 bits: they are of 8.
        data = np.frombuffer(data, dtype=np.uint8 if len(data) < 2 * count else f"{order}u2")

    entries = np.asarray(data, dtype=np.float64)[:count]
    if not entries.size:
        raise ValueError("a lookup table without entries")
    return entries


def _window(dataset: Dataset) -> tuple[str, float, float] | None:
    """Function, centre and width of the first window; None if there is none that can be applied.

    A function that the standard does not name (PS3.3 C.11.2.1.3), a width that it forbids, and values that are no
    numbers leave the window out: what such a window would show is a guess, and the whole range loses nothing.
    """
    # Some devices write `linear` or `LINEAR EXACT`.
    name = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper().replace(" ", "_").replace("-", "_")
    centre = first_decimal(dataset, "WindowCenter")
    width = first_decimal(dataset, "WindowWidth")
    if centre is None or width is None or name not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        return None
    least = 1.0 if name == "LINEAR" else 1e-6

    return (name, centre, width) if width >= least else None


def _windowed(values: Values, name: str, centre: float, width: float) -> NDArray[np.uint8]:
    """PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2."""
    if name == "SIGMOID":
        with np.errstate(over="ignore"):
            return to_uint8(1.0 / (1.0 + np.exp(-4.0 * (values - centre) / width)), 0.0, 1.0)

    if name == "LINEAR":
        centre = centre - 0.5
        width = width - 1.0

    if width == 0.0:
        return np.asarray(np.where(values > centre, 255, 0), dtype=np.uint8)
    return to_uint8(values, centre - width / 2.0, centre + width / 2.0)
