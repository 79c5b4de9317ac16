from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.pixels.decoders.base import JPEG2000LosslessDecoder, JPEGLosslessSV1Decoder
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from radiographs import RAMP, radiograph, read, table

from common.errors import ImageError
from common.learning.data.imaging.dicom import read_dicom


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_without_a_window_the_least_value_is_black_and_the_greatest_white(tmp_path: Path, syntax: UID) -> None:
    image = read(radiograph(100 + RAMP, syntax=syntax), tmp_path)
    assert image.dtype == np.uint8
    assert image.tolist() == np.rint(RAMP / 11 * 255).astype(int).tolist()


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 12), (np.uint16, 15), (np.uint16, 16)])
def test_every_depth_spans_black_to_white(tmp_path: Path, dtype: type, bits: int) -> None:
    top = 2**bits - 1
    image = read(radiograph(np.array([[0, top // 2, top]], dtype=dtype), bits=bits), tmp_path)
    assert image.tolist() == [[0, 127, 255]]


def test_signed_values_are_kept_in_order(tmp_path: Path) -> None:
    image = read(radiograph(np.array([[-2048, -1, 2047]], dtype=np.int16)), tmp_path)
    assert image.tolist() == [[0, 127, 255]]


@pytest.mark.parametrize(("dtype", "expected"), [(np.uint16, [0, 85, 255]), (np.int16, [128, 255, 0])])
def test_an_overlay_in_the_unused_bits_is_no_part_of_the_image(
    tmp_path: Path, dtype: type, expected: list[int]
) -> None:
    # Stored 0, 1, 3 in two bits; two's complement reads them as 0, 1, -1.
    stored = np.array([[0, 1, 3]], dtype=np.uint16) | np.uint16(0x1000)
    pixels: NDArray[Any] = stored.astype(dtype)
    assert read(radiograph(pixels, bits=2), tmp_path).tolist() == [expected]


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    image = read(radiograph(RAMP, PhotometricInterpretation="MONOCHROME1"), tmp_path)
    assert (image[0, 0], image[2, 3]) == (255, 0)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # PS3.3 C.11.2.1.2: LINEAR is centred half a value lower and one value narrower.
        ("LINEAR", [0, 0, round((2047 - 2047.5) / 1023 * 255 + 127.5), 255, 255]),
        ("LINEAR_EXACT", [0, 0, round((2047 - 2048) / 1024 * 255 + 127.5), 255, 255]),
        ("SIGMOID", [round(255 / (1 + np.exp(-4 * (v - 2048) / 1024))) for v in (0, 1535, 2047, 2561, 4095)]),
    ],
)
def test_the_window_is_mapped_to_black_and_white_by_its_function(
    tmp_path: Path, function: str, expected: list[int]
) -> None:
    pixels = np.array([[0, 1535, 2047, 2561, 4095]], dtype=np.uint16)
    image = read(radiograph(pixels, WindowCenter=2048, WindowWidth=1024, VOILUTFunction=function), tmp_path)
    assert image.tolist() == [expected]


def test_a_wide_window_leaves_a_flat_image_grey(tmp_path: Path) -> None:
    image = read(radiograph(2000 + RAMP, WindowCenter=2048, WindowWidth=4096), tmp_path)
    assert (image.min(), image.max()) == (125, 125)


def test_the_first_of_several_windows_is_taken(tmp_path: Path) -> None:
    image = read(radiograph(RAMP, WindowCenter=[5.5, 2048], WindowWidth=[11, 4096]), tmp_path)
    assert image.max() == 255


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": 2048, "WindowWidth": 0},
        {"WindowCenter": 2048},
        {"WindowCenter": None, "WindowWidth": None},
        {"RescaleSlope": 2, "VOILUTFunction": ""},
    ],
)
def test_a_window_that_the_standard_forbids_is_no_window(tmp_path: Path, tags: dict[str, Any]) -> None:
    image = read(radiograph(RAMP, **tags), tmp_path)
    assert (image.min(), image.max()) == (0, 255)


def test_rescaled_values_meet_the_window(tmp_path: Path) -> None:
    pixels = np.array([[0, 1024, 2048]], dtype=np.uint16)
    tags: dict[str, Any] = {"RescaleSlope": 0.5, "RescaleIntercept": -512, "WindowCenter": 0, "WindowWidth": 1024}
    image = read(radiograph(pixels, VOILUTFunction="LINEAR_EXACT", **tags), tmp_path)
    assert image.tolist() == [[0, 128, 255]]


def test_a_falling_slope_turns_the_image_round(tmp_path: Path) -> None:
    tags: dict[str, Any] = {"RescaleSlope": -1, "RescaleIntercept": 0, "WindowCenter": -5.5, "WindowWidth": 11}
    image = read(radiograph(RAMP, VOILUTFunction="LINEAR_EXACT", **tags), tmp_path)
    assert (image[0, 0], image[2, 3]) == (255, 0)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_lookup_table_goes_before_a_window(tmp_path: Path, syntax: UID) -> None:
    lut = table(1000, [0, 10, 20, 255])
    pixels = np.array([[0, 1000, 1001, 1002, 1003, 4000]], dtype=np.uint16)
    image = read(radiograph(pixels, syntax=syntax, VOILUTSequence=lut, WindowCenter=1, WindowWidth=2), tmp_path)
    assert image.tolist() == [[0, 0, 10, 20, 255, 255]]


@pytest.mark.parametrize(
    ("syntax", "order"), [(ExplicitVRLittleEndian, "<u2"), (ExplicitVRBigEndian, ">u2"), (ExplicitVRLittleEndian, "u1")]
)
def test_a_lookup_table_may_be_bytes(tmp_path: Path, syntax: UID, order: str) -> None:
    lut = table(0, [0, 10, 20, 255])
    lut[0].add_new("LUTData", "OW", np.array([0, 10, 20, 255]).astype(order).tobytes())
    image = read(radiograph(np.array([[0, 1, 2, 3]], dtype=np.uint16), syntax=syntax, VOILUTSequence=lut), tmp_path)
    assert image.tolist() == [[0, 10, 20, 255]]


def test_a_table_that_starts_below_zero_is_signed_in_implicit_vr(tmp_path: Path) -> None:
    lut = table(-2, [0, 10, 20, 255])
    pixels = np.array([[-9, -2, -1, 0, 1, 9]], dtype=np.int16)
    image = read(radiograph(pixels, syntax=ImplicitVRLittleEndian, VOILUTSequence=lut), tmp_path)
    assert image.tolist() == [[0, 0, 10, 20, 255, 255]]


def test_a_table_that_declares_more_bits_than_it_fills_still_reaches_white(tmp_path: Path) -> None:
    image = read(radiograph(RAMP, VOILUTSequence=table(0, [i * 372 for i in range(12)], bits=16)), tmp_path)
    assert (image.min(), image.max()) == (0, 255)


def test_a_modality_table_is_applied_first(tmp_path: Path) -> None:
    tags: dict[str, Any] = {
        "ModalityLUTSequence": table(0, list(range(11, -1, -1)), bits=16),
        "VOILUTSequence": table(0, [0, 255]),
    }
    tags["ModalityLUTSequence"][0].ModalityLUTType = "US"
    image = read(radiograph(RAMP, **tags), tmp_path)
    assert image.ravel().tolist() == [255] * 11 + [0]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_count_for_the_range(tmp_path: Path, photometric: str) -> None:
    pixels = np.array([[4000, 100, 200, 4010]], dtype=np.uint16)
    tags: dict[str, Any] = {
        "PixelPaddingValue": 4000,
        "PixelPaddingRangeLimit": 4095,
        "PhotometricInterpretation": photometric,
    }
    image = read(radiograph(pixels, **tags), tmp_path)
    assert sorted(image.ravel().tolist()) == [0, 0, 0, 255]
    assert image[0, 0] == image[0, 3] == 0


def test_an_image_of_one_value_is_black_not_a_division_by_zero(tmp_path: Path) -> None:
    assert not read(radiograph(np.full((2, 2), 7, dtype=np.uint16)), tmp_path).any()


def test_colour_becomes_luminance(tmp_path: Path) -> None:
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
    assert read(radiograph(pixels, bits=8), tmp_path).tolist() == [[76, 150, 29, 255]]


def test_run_length_encoding_changes_nothing(tmp_path: Path) -> None:
    plain = radiograph(np.random.default_rng(0).integers(0, 4096, (40, 30), dtype=np.uint16))
    expected = read(plain, tmp_path)
    plain.compress(RLELossless)
    assert (read(plain, tmp_path) == expected).all()


@pytest.mark.parametrize(("plain", "packed"), [("RG1_UNCR.dcm", "RG1_J2KR.dcm"), ("RG3_UNCR.dcm", "RG3_J2KR.dcm")])
def test_a_real_radiograph_reads_the_same_in_jpeg_2000(plain: str, packed: str) -> None:
    images = [read_dicom(sample(name)) for name in (plain, packed)]
    assert (images[0] == images[1]).all()


def test_a_real_chest_has_dark_lungs_and_a_bright_spine() -> None:
    image = read_dicom(sample("RG1_UNCR.dcm"))
    height, width = image.shape
    lung = image[int(0.4 * height) : int(0.5 * height), int(0.68 * width) : int(0.75 * width)]
    spine = image[int(0.7 * height) : int(0.8 * height), int(0.45 * width) : int(0.55 * width)]
    assert lung.mean() + 50 < spine.mean()


def test_jpeg_lossless_is_read_exactly_by_the_optional_codec(tmp_path: Path) -> None:
    gdcm = pytest.importorskip("gdcm")
    plain = radiograph(np.random.default_rng(0).integers(0, 4096, (40, 30), dtype=np.uint16))
    expected = read(plain, tmp_path)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(tmp_path / "image.dcm"))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(tmp_path / "lossless.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert dcmread(tmp_path / "lossless.dcm").file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.70"
    assert (read_dicom(tmp_path / "lossless.dcm") == expected).all()


def test_a_missing_codec_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JPEGLosslessSV1Decoder, "_available", {})
    with pytest.raises(ImageError, match=r"no codec for JPEG Lossless.*pip install python-gdcm"):
        read_dicom(sample("JPGLosslessP14SV1_1s_1f_8b.dcm"))


def test_jpeg_2000_needs_no_optional_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = JPEG2000LosslessDecoder._available
    monkeypatch.setattr(JPEG2000LosslessDecoder, "_available", {"pillow": everything["pillow"]})
    assert (read_dicom(sample("RG3_J2KR.dcm")) == read_dicom(sample("RG3_UNCR.dcm"))).all()


def test_twelve_bit_lossy_jpeg_says_how_to_export_it() -> None:
    with pytest.raises(ImageError, match="12-bit lossy JPEG is not read"):
        read_dicom(sample("JPGExtended.dcm"))


def test_several_frames_are_refused(tmp_path: Path) -> None:
    dataset = radiograph(RAMP, NumberOfFrames=2)
    dataset.PixelData *= 2
    with pytest.raises(ImageError, match="several frames"):
        read(dataset, tmp_path)


def test_a_header_that_claims_more_pixels_than_a_radiograph_has_is_not_believed(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="more than 67108864 pixels"):
        read(radiograph(RAMP, Rows=65535, Columns=65535), tmp_path)


def test_a_report_without_pixels_is_refused(tmp_path: Path) -> None:
    dataset = radiograph(RAMP)
    del dataset.PixelData
    with pytest.raises(ImageError, match="without pixels"):
        read(dataset, tmp_path)


@pytest.mark.parametrize("keep", [10, 150, 300, -4])
def test_a_truncated_file_is_damaged_and_nothing_of_it_is_told(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "Muster-Erika.dcm"
    radiograph(RAMP).save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ImageError) as caught:
        read_dicom(path)
    assert "Muster" not in str(caught.value)
    assert caught.value.remedy


def test_no_warning_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "Muster-Erika.dcm"
    dataset = radiograph(np.random.default_rng(0).integers(0, 4096, (40, 30), dtype=np.uint16))
    dataset.compress(RLELossless)
    dataset.save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.warns(UserWarning, match="End of file reached") as caught, pytest.raises(ImageError):
        read_dicom(path)
    assert not [warning for warning in caught if "Muster" in str(warning.message)]


@pytest.mark.parametrize("missing", ["Rows", "BitsStored", "HighBit", "PhotometricInterpretation"])
def test_a_file_without_a_needed_tag_is_damaged(tmp_path: Path, missing: str) -> None:
    dataset = radiograph(RAMP)
    delattr(dataset, missing)
    with pytest.raises(ImageError, match="damaged DICOM file"):
        read(dataset, tmp_path)


def sample(name: str) -> Path:
    """A file of pydicom's or pydicom-data's, never fetched from the network."""
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    return Path(str(path))
