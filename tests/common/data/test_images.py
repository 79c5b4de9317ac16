import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.data.images import fit, read_image
from common.errors import ImageError

GREY = np.array([[0, 50, 100], [150, 200, 255]], dtype=np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.dcm", "a"])
def test_the_content_tells_the_format_not_the_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(GREY).save(path, format="PNG")
    assert read_image(path).tolist() == GREY.tolist()


def test_a_jpeg_is_read_as_grey(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (16, 8), (200, 200, 200)).save(path)
    image = read_image(path)
    assert image.shape == (8, 16)
    assert abs(int(image[0, 0]) - 200) <= 1


def test_colour_and_transparency_become_luminance(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGBA", (1, 1), (255, 0, 0, 128)).save(path)
    assert read_image(path).tolist() == [[76]]


def test_a_16_bit_png_spans_black_to_white(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[1000, 2000, 3000]], dtype=np.uint16)).save(path)
    assert read_image(path).tolist() == [[0, 128, 255]]


def test_a_16_bit_png_of_one_value_is_black(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((2, 2), 900, dtype=np.uint16)).save(path)
    assert not read_image(path).any()


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(GREY).save(path, exif=exif)
    assert read_image(path).tolist() == np.rot90(GREY, -1).tolist()


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_image_is_damaged_and_not_named(tmp_path: Path, format_: str, share: float) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(buffer, format_)
    path = tmp_path / "Muster-Erika.png"
    path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
    with pytest.raises(ImageError, match="damaged image file") as caught:
        read_image(path)
    assert "Muster" not in str(caught.value)


def test_a_png_with_a_broken_chunk_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ImageError, match="damaged image file"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"patient,report\n", b"GIF89a" + bytes(200)])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="not a PNG, JPEG or DICOM image"):
        read_image(path)


@pytest.mark.parametrize("times", [1.5, 3.0])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: float) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (int(100 * times), 100)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100 * 100)
    with pytest.raises(ImageError, match="too large to be a radiograph"):
        read_image(path)


@pytest.mark.parametrize("name", ["gone.png", "."])
def test_a_missing_image_or_a_folder_is_an_image_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError):
        read_image(tmp_path / name)


@settings(deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300), size=st.integers(1, 128))
def test_fit_keeps_the_aspect_and_centres(height: int, width: int, size: int) -> None:
    square = fit(np.full((height, width), 200, dtype=np.uint8), size)
    assert square.shape == (size, size)
    assert set(np.unique(square)) <= {0, 200}
    rows, columns = np.flatnonzero(square.any(axis=1)), np.flatnonzero(square.any(axis=0))
    for found, side in ((rows, height), (columns, width)):
        exact = side * size / max(height, width)
        assert max(1.0, exact - 0.5) <= len(found) <= max(1.0, exact + 0.5)
        assert abs(found[0] - (size - 1 - found[-1])) <= 1  # as much black on one side as on the other


def test_fit_averages_areas() -> None:
    assert fit(np.array([[0, 100], [200, 100]], dtype=np.uint8).repeat(8, 0).repeat(8, 1), 1).tolist() == [[100]]
    assert fit(np.tile(np.array([[0, 100]], dtype=np.uint8), (4, 2)), 2).tolist() == [[50, 50], [50, 50]]
