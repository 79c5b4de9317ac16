"""What a compressed picture within a DICOM file says of its size, read before any codec sees it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from common.learning.data.imaging.image_limits import check_growth

_JPEG = b"\xff\xd8"
_JPEG_2000 = b"\xff\x4f\xff\x51"
# A JP2 file has its boxes before the code stream; DICOM wants none, some devices write them.
_BOX_BYTES = 4096
# Start of frame: ITU-T T.81, table B.1; F7 is that of JPEG-LS (ITU-T T.87).
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_RLE_HEADER = 64


@dataclass(frozen=True, slots=True)
class Codestream:
    """Size and depth of one compressed picture."""

    rows: int
    columns: int
    precision: int


def read_codestream(frame: bytes) -> Codestream:
    """Read the frame header of a JPEG, JPEG-LS or JPEG 2000 code stream.

    Raises:
        ValueError: there is none.
        struct.error: it ends before its header does.
    """
    if frame.startswith(_JPEG):
        return _jpeg(frame)
    start = frame.find(_JPEG_2000, 0, _BOX_BYTES)
    if start < 0:
        raise ValueError("neither JPEG nor JPEG 2000")
    # ITU-T T.800 A.5.1: the size of the reference grid, and where the image begins on it.
    right, bottom, left_edge, top = struct.unpack_from(">4I", frame, start + 8)
    precision = (frame[start + 42] & 0x7F) + 1

    return Codestream(bottom - top, right - left_edge, precision)


def _jpeg(frame: bytes) -> Codestream:
    position = len(_JPEG)
    while True:
        marker, kind = struct.unpack_from(">BB", frame, position)
        if marker != 0xFF:
            raise ValueError("no marker where one must be")
        if kind == 0xFF:  # fill byte
            position += 1
            continue

        if kind in _SIZES:
            precision, rows, columns = struct.unpack_from(">BHH", frame, position + 4)
            return Codestream(rows, columns, precision)

        position += 2 + struct.unpack_from(">H", frame, position + 2)[0]


def check_rle(frame: bytes, expected_bytes: int) -> None:
    """Check that a frame in DICOM's RLE (PS3.5 annex G) does not unpack to more than its header says.

    Raises:
        ImageError: it does, by far.
        ValueError: the offsets of its segments lie outside of it.
    """
    count, *offsets = struct.unpack_from("<16I", frame)
    starts = offsets[:count]
    if not starts or any(start < _RLE_HEADER or start > len(frame) for start in starts):
        raise ValueError("RLE offsets outside the frame")
    unpacked_bytes = 0
    for start, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        position = start
        # Only counted, never unpacked; and no further than is needed to say that it is too much.
        while position < end and unpacked_bytes <= 2 * expected_bytes:
            control = frame[position]
            position += 1

            if control < 128:
                unpacked_bytes += control + 1
                position += control + 1
            elif control > 128:
                unpacked_bytes += 257 - control
                position += 1

    if unpacked_bytes > 2 * expected_bytes:
        check_growth(unpacked_bytes, 0)
        raise ValueError("RLE segments longer than the picture")
