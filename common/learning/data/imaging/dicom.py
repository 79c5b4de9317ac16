"""Radiographs in DICOM files: read, bounded before anything is unpacked, and shown by `dicom_display`."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    RLELossless,
)

from common.errors import ImageError
from common.learning.data.imaging.codestream import check_rle, read_codestream
from common.learning.data.imaging.dicom_display import display, to_uint8
from common.learning.data.imaging.dicom_numbers import first_decimal
from common.learning.data.imaging.image_limits import check_growth, check_size, most_bytes, read_file

# Names, dates and numbers of the patient are never even read.
_TAGS = [
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "VOILUTSequence", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData",
]  # fmt: skip

# What pydicom and its codecs raise on files that break the standard. Their texts may quote the file: never shown.
_DAMAGED = (
    ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError, RuntimeError, OverflowError,
    OSError, EOFError, struct.error, zlib.error, InvalidDicomError,
    BytesLengthException,
)  # fmt: skip

_PREAMBLE = 128
_MAGIC = b"DICM"
# Value representations whose length has 4 bytes (PS3.5 7.1.2).
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
# The first group of a file without preamble: 0002, or 0008 in either byte order.
_FIRST_TAGS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
# Value representations that open group 0002 or 0008.
_VRS = frozenset({b"AE", b"AS", b"CS", b"DA", b"DT", b"LO", b"OB", b"PN", b"SH", b"TM", b"UI", b"UL"})


def is_dicom(head: bytes) -> bool:
    """Do a file's first 132 bytes begin a DICOM file, with or without its preamble?"""
    if head[_PREAMBLE:].startswith(_MAGIC) or head.startswith(_MAGIC):
        return True
    if head[:2] not in _FIRST_TAGS or len(head) < 8:
        return False
    # Explicit: a value representation. Implicit: the length of a first element, which is short.
    return head[4:6] in _VRS or int.from_bytes(head[4:8], "little") <= 64


def read_dicom(path: Path) -> NDArray[np.uint8]:
    """Read one radiograph as displayed, 0 black and 255 white, `[height, width]`; colour becomes luminance (BT.601).

    Raises:
        ImageError: the file is missing, damaged, too large, has several frames, or needs a codec that is not installed.
    """
    return decode_dicom(read_file(path))


def decode_dicom(data: bytes) -> NDArray[np.uint8]:
    """`read_dicom` of a file's bytes."""
    try:
        dataset = _parse(data)
        _check(dataset, len(data))
        # The bits that hold the values are ours to find: pydicom keeps the lowest ones, whatever High Bit says.
        pixels = pixel_array(dataset, correct_unused_bits=False)
        if dataset.SamplesPerPixel == 3:
            return _luminance(pixels, dataset)
        return display(*_stored_values(pixels, dataset), dataset)
    except _DAMAGED:
        raise ImageError("damaged DICOM file", remedy="export the image again, or remove its row") from None


def _parse(data: bytes) -> Dataset:
    start = _PREAMBLE + len(_MAGIC) if data[_PREAMBLE:].startswith(_MAGIC) else 0
    if not start and data.startswith(_MAGIC):
        data = data[len(_MAGIC) :]
    if _is_deflated(data, start):
        # Unpacked here first, up to the bound: pydicom would unpack all of it at once.
        body = data[_end_of_meta(data, start) :]
        most = most_bytes(len(data))
        check_growth(len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, most + 1)), len(data))

    # From memory, since pydicom's warnings name the file it reads.
    dataset = dcmread(io.BytesIO(data), force=not start, specific_tags=list(_TAGS))
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        )
        dataset.file_meta = meta

    return dataset


def _is_deflated(data: bytes, start: int) -> bool:
    return DeflatedExplicitVRLittleEndian.encode() in data[start : _end_of_meta(data, start)]


def _end_of_meta(data: bytes, start: int) -> int:
    """Where group 0002 ends; it is always in explicit VR little endian (PS3.10 7.1)."""
    position = start

    while data[position : position + 2] == b"\x02\x00":
        if data[position + 4 : position + 6] in _LONG:
            position += 12 + int.from_bytes(data[position + 8 : position + 12], "little")
        else:
            position += 8 + int.from_bytes(data[position + 6 : position + 8], "little")

    return position


def _check(dataset: Dataset, file_bytes: int) -> None:
    if "PixelData" not in dataset:
        raise ImageError("DICOM file without pixels", remedy="remove its row")
    if _frames(dataset) > 1:
        raise ImageError("DICOM file with several frames", remedy="give one radiograph per file")
    if dataset.PhotometricInterpretation == "PALETTE COLOR" or dataset.SamplesPerPixel not in (1, 3):
        raise ImageError("DICOM file with palette colours", remedy="export the radiograph in greyscale")
    bits_allocated = int(dataset.BitsAllocated)
    bits_stored = int(dataset.BitsStored)

    if not 1 <= bits_stored <= bits_allocated:
        raise ImageError(
            f"the header says {bits_stored} bits stored of {bits_allocated} allocated", remedy="export the image again"
        )

    sample_bytes = max(1, bits_allocated // 8) * int(dataset.SamplesPerPixel)
    # Size and codec are checked by the header before any pixel is unpacked.
    check_size(int(dataset.Columns), int(dataset.Rows), sample_bytes, file_bytes)
    _check_codec(dataset)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        _check_frame(dataset, int(dataset.Rows) * int(dataset.Columns) * sample_bytes)


def _frames(dataset: Dataset) -> int:
    """How many frames there are; the element goes, since a single frame needs none and it may be no number."""
    count = int(first_decimal(dataset, "NumberOfFrames") or 1)
    if "NumberOfFrames" in dataset:
        del dataset.NumberOfFrames
    return count


def _check_codec(dataset: Dataset) -> None:
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


def _frame(dataset: Dataset) -> bytes:
    return bytes(get_frame(dataset.PixelData, 0, number_of_frames=1))


def _check_frame(dataset: Dataset, unpacked_bytes: int) -> None:
    """Refuse a compressed picture that is larger than the header says: codecs believe the picture."""
    frame = _frame(dataset)
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        check_rle(frame, unpacked_bytes)
        return

    picture = read_codestream(frame)
    if (picture.rows, picture.columns) != (int(dataset.Rows), int(dataset.Columns)):
        raise ImageError(
            "the compressed picture has another size than the DICOM header says", remedy="export the image again"
        )


def _stored_values(pixels: NDArray[Any], dataset: Dataset) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Positions `[height, width]` in a table of stored values, and that table."""
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    bits = 8 * native.dtype.itemsize
    codes: NDArray[Any] = native.view(f"u{native.dtype.itemsize}")

    if _holds_whole_words(dataset):
        # Bits above High Bit may hold an overlay, those below the values anything (PS3.5 8.1.1). A High Bit below the
        # stored bits cannot be; DCMTK and GDCM take the lowest bits then.
        bits = int(dataset.BitsStored)
        shift = max(0, min(int(dataset.HighBit), int(dataset.BitsAllocated) - 1) + 1 - bits)
        codes = (codes >> shift) & (2**bits - 1)

    if bits <= 16:
        values = np.arange(2**bits, dtype=np.int64)
    else:
        distinct, inverse = np.unique(codes, return_inverse=True)
        codes = inverse.reshape(codes.shape)
        values = distinct.astype(np.int64)

    if dataset.PixelRepresentation == 1:
        values[values >= 2 ** (bits - 1)] -= 2**bits
    return codes, values


def _holds_whole_words(dataset: Dataset) -> bool:
    """Whether pixels are words as allocated, with bits around the value; most codecs give the value alone."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or syntax == RLELossless:
        return True
    return read_codestream(_frame(dataset)).precision > int(dataset.BitsStored)


def _luminance(pixels: NDArray[Any], dataset: Dataset) -> NDArray[np.uint8]:
    """Luminance of `[height, width, 3]`; deeper than 8 bits it is stretched, as 16 bits often hold 12."""
    grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    if int(dataset.BitsStored) > 8:
        return to_uint8(grey, float(grey.min()), float(grey.max()))
    return to_uint8(grey, 0.0, float(2 ** int(dataset.BitsStored) - 1))
