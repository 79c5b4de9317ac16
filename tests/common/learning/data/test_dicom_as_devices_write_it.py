"""Headers and files that break the standard in ways that real devices do."""

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from radiographs import radiograph, read

from common.errors import ImageError
from common.learning.data.imaging.codestream import read_codestream
from common.learning.data.imaging.dicom import decode_dicom, read_dicom
from common.learning.data.imaging.dicom_numbers import decimals
from common.learning.data.imaging.images import is_blank, read_image

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # it warns of what is wrong here on purpose

STEPS = np.linspace(0, 4095, 256).astype(np.uint16).reshape(16, 16)
FULL_RANGE = np.rint(STEPS / 4095 * 255).astype(np.uint8)


def written(dataset: FileDataset) -> bytes:
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def read_bytes(data: bytes, folder: Path) -> NDArray[np.uint8]:
    path = folder / "image"
    path.write_bytes(data)
    return read_image(path)


@pytest.mark.parametrize("high_bit", [11, 12, 13, 14, 15])
@pytest.mark.parametrize("noise", [0, 1])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_the_stored_bits_end_at_high_bit(tmp_path: Path, high_bit: int, noise: int, syntax: UID) -> None:
    shift = high_bit - 11
    word = STEPS << shift
    if noise:
        word = word | np.uint16(2**shift - 1) | np.uint16((0xFFFF << (high_bit + 1)) & 0xFFFF)
    packed = syntax == RLELossless
    dataset = radiograph(word, syntax=ExplicitVRLittleEndian if packed else syntax, HighBit=high_bit)
    if packed:
        dataset.compress(RLELossless)
    assert (read(dataset, tmp_path) == FULL_RANGE).all()


@pytest.mark.parametrize("high_bit", [11, 15])
def test_signed_values_keep_their_order_below_any_high_bit(tmp_path: Path, high_bit: int) -> None:
    signed = STEPS.astype(np.int16) - 2048
    dataset = radiograph(signed << (high_bit - 11), HighBit=high_bit)
    assert (read(dataset, tmp_path) == FULL_RANGE).all()


@pytest.mark.parametrize("high_bit", [0, 7, 99])
def test_a_high_bit_that_cannot_be_takes_the_lowest_bits_or_the_highest(tmp_path: Path, high_bit: int) -> None:
    word = STEPS << 4 if high_bit > 15 else STEPS
    assert (read(radiograph(word, HighBit=high_bit), tmp_path) == FULL_RANGE).all()


@pytest.mark.parametrize("bits", [0, 17])
def test_more_bits_stored_than_allocated_are_a_clear_line(tmp_path: Path, bits: int) -> None:
    with pytest.raises(ImageError, match=f"{bits} bits stored of 16 allocated"):
        read(radiograph(STEPS, BitsStored=bits), tmp_path)


def with_text(dataset: FileDataset, keyword: str, text: str) -> bytes:
    """The file with the text of a decimal string as a device would write it."""
    setattr(dataset, keyword, "1" * (len(text) + len(text) % 2))
    data = written(dataset)
    marker = b"1" * (len(text) + len(text) % 2)
    assert data.count(marker) == 1

    return data.replace(marker, text.ljust(len(marker)).encode())


@pytest.mark.parametrize("function", [None, "LINEAR", "linear", "LINEAR_EXACT", "LINEAR EXACT", "SIGMOID"])
def test_a_decimal_comma_is_a_decimal_point(tmp_path: Path, function: str | None) -> None:
    tags: dict[str, Any] = {"VOILUTFunction": function} if function else {}
    pointed = read(radiograph(STEPS, WindowCenter="1800.5", WindowWidth=1024, **tags), tmp_path)
    comma = read_bytes(with_text(radiograph(STEPS, WindowWidth=1024, **tags), "WindowCenter", "1800,5"), tmp_path)
    assert (comma == pointed).all()
    assert not is_blank(comma)


@pytest.mark.parametrize("keyword", ["RescaleIntercept", "RescaleSlope"])
def test_a_rescale_with_a_decimal_comma_meets_the_window(tmp_path: Path, keyword: str) -> None:
    others: dict[str, Any] = {"WindowCenter": 1800, "WindowWidth": 1024, "RescaleSlope": 1, "RescaleIntercept": 0}
    pointed = read(radiograph(STEPS, **{**others, keyword: "1.2512"}), tmp_path)
    assert (read_bytes(with_text(radiograph(STEPS, **others), keyword, "1,2512"), tmp_path) == pointed).all()


@pytest.mark.parametrize("text", ["2.048,5", "normal", "1e", "nan", "inf", "1_000", "--5", "2048,5,1"])
def test_a_window_that_is_no_number_is_left_out(tmp_path: Path, text: str) -> None:
    data = with_text(radiograph(STEPS, WindowWidth=1024), "WindowCenter", text.rjust(9, " "))
    assert (read_bytes(data, tmp_path) == FULL_RANGE).all()


@pytest.mark.parametrize("function", ["LOGARITHMIC", "VENDOR_1", "SIGMOID_NEW"])
def test_an_unknown_voi_function_leaves_the_window_out(tmp_path: Path, function: str) -> None:
    image = read(radiograph(STEPS, WindowCenter=100, WindowWidth=50, VOILUTFunction=function), tmp_path)
    assert (image == FULL_RANGE).all()


def test_a_rescale_that_is_no_number_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="RescaleIntercept is not a number"):
        read_bytes(with_text(radiograph(STEPS), "RescaleIntercept", "geheim!"), tmp_path)


@pytest.mark.parametrize("tags", [{"RescaleSlope": ""}, {"WindowCenter": "", "WindowWidth": ""}, {"RescaleSlope": 2}])
def test_empty_decimals_count_as_absent(tmp_path: Path, tags: dict[str, Any]) -> None:
    assert (read(radiograph(STEPS, **tags), tmp_path) == FULL_RANGE).all()


def test_a_rescale_slope_of_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="rescale slope is 0"):
        read(radiograph(STEPS, RescaleSlope=0, RescaleIntercept=100), tmp_path)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("centre", [-1, 0, 5000])
def test_a_window_beside_the_values_gives_a_blank_image(tmp_path: Path, photometric: str, centre: int) -> None:
    tags: dict[str, Any] = {"WindowCenter": centre, "WindowWidth": 1, "PhotometricInterpretation": photometric}
    assert is_blank(read(radiograph(np.maximum(STEPS, 1), **tags), tmp_path))


def test_decimals_are_read_as_they_lie_in_the_file() -> None:
    dataset = dcmread(io.BytesIO(with_text(radiograph(STEPS), "WindowCenter", "40,5\\ 50\\\\-6e1 ")))
    assert decimals(dataset, "WindowCenter") == [40.5, 50.0, -60.0]


@pytest.mark.parametrize("text", ["1", "1 ", "1,0", "one", "0", " "])
def test_a_number_of_frames_that_is_no_number_is_one_frame(tmp_path: Path, text: str) -> None:
    data = written(radiograph(STEPS, NumberOfFrames=7531))
    data = data.replace(b"7531", text.ljust(4).encode())
    assert (read_bytes(data, tmp_path) == FULL_RANGE).all()


@pytest.mark.parametrize("text", ["2,0", "2", "12"])
def test_several_frames_are_refused_however_they_are_counted(tmp_path: Path, text: str) -> None:
    data = written(radiograph(STEPS, NumberOfFrames=7531)).replace(b"7531", text.ljust(4).encode())
    with pytest.raises(ImageError, match="several frames"):
        read_bytes(data, tmp_path)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("keep_meta", [True, False])
def test_a_file_without_preamble_is_read(tmp_path: Path, syntax: UID, keep_meta: bool) -> None:
    data = written(radiograph(STEPS, syntax=syntax))[132:]
    if not keep_meta:
        data = data[12 + struct.unpack_from("<I", data, 8)[0] :]
    assert (read_bytes(data, tmp_path) == FULL_RANGE).all()


def test_a_file_whose_magic_comes_first_is_read(tmp_path: Path) -> None:
    assert (read_bytes(written(radiograph(STEPS))[128:], tmp_path) == FULL_RANGE).all()


@pytest.mark.parametrize("content", [b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", b"\x02\x00" + bytes(300), b"\x08\x00"])
def test_what_only_begins_like_dicom_is_an_image_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ImageError):
        read_bytes(content, tmp_path)


def deflated(dataset: FileDataset, tail: bytes = b"") -> bytes:
    """The file as deflated explicit VR little endian (PS3.5 A.5), with more bytes at the end of what is deflated."""
    data = written(dataset)
    end = 144 + struct.unpack_from("<I", data, 140)[0]
    meta = dataset.file_meta
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    head = written(dataset)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)

    return head[: 144 + struct.unpack_from("<I", head, 140)[0]] + deflate.compress(data[end:] + tail) + deflate.flush()


def test_a_deflated_file_is_read(tmp_path: Path) -> None:
    assert (read_bytes(deflated(radiograph(STEPS)), tmp_path) == FULL_RANGE).all()


def test_a_deflated_file_that_grows_a_thousandfold_is_refused(tmp_path: Path) -> None:
    private = struct.pack("<HH2sHI", 0x7FE1, 0x1001, b"OB", 0, 2**25) + bytes(2**25)
    data = deflated(radiograph(STEPS), private)
    assert len(data) < 2**25 / 500
    with pytest.raises(ImageError, match="grows more than 200 times"):
        read_bytes(data, tmp_path)


def test_a_code_stream_larger_than_its_header_is_refused_unread(tmp_path: Path) -> None:
    path = get_testdata_file("RG3_J2KR.dcm", download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    data = bytearray(Path(str(path)).read_bytes())
    start = data.index(b"\xff\x4f\xff\x51")
    struct.pack_into(">2I", data, start + 8, 60000, 60000)
    with pytest.raises(ImageError, match="another size"):
        read_bytes(bytes(data), tmp_path)


@pytest.mark.parametrize(
    "name", ["JPGLosslessP14SV1_1s_1f_8b.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_jpeg_no_color_transform.dcm"]
)
def test_the_size_of_jpeg_and_jpeg_ls_is_read_from_their_frame_header(name: str) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    dataset = dcmread(path)
    frame = dataset.PixelData[dataset.PixelData.index(b"\xff\xd8") :]
    found = read_codestream(frame)
    assert (found.rows, found.columns) == (dataset.Rows, dataset.Columns)
    assert found.precision <= dataset.BitsAllocated


def test_run_lengths_that_unpack_to_more_than_the_picture_are_refused(tmp_path: Path) -> None:
    dataset = radiograph(STEPS)
    dataset.compress(RLELossless)
    segment = b"\x81\x00" * 10_000  # 128 zeros each
    frame = struct.pack("<16I", 2, 64, 64 + len(segment), *[0] * 13) + segment + segment
    dataset.PixelData = struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(frame)) + frame
    with pytest.raises(ImageError):
        read(dataset, tmp_path)


def test_a_real_chest_reads_as_before_from_the_full_table(tmp_path: Path) -> None:
    path = get_testdata_file("RG1_UNCR.dcm", download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    image = read_dicom(Path(str(path)))
    dataset = dcmread(path)
    assert image.shape == (dataset.Rows, dataset.Columns)
    assert not is_blank(image)
    assert len(np.unique(image)) > 200


def test_a_damaged_file_is_an_image_error_wherever_it_is_damaged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tags: dict[str, Any] = {
        "WindowCenter": 2048,
        "WindowWidth": 1024,
        "PixelPaddingValue": 7,
        "RescaleSlope": 1,
        "NumberOfFrames": 1,
    }
    whole = written(radiograph(STEPS, **tags))

    for _ in range(2000):
        data = bytearray(whole)
        for position in rng.integers(132, 700, size=rng.integers(1, 6)):
            data[position] = rng.integers(256)
        with suppress(ImageError):
            decode_dicom(bytes(data))
