import io
import os
import struct
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.errors import ImageError
from common.learning.data.imaging.images import fit, is_blank, read_image

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


def deep_png(samples: np.ndarray, colour: int, tail: bytes = b"") -> bytes:
    """A PNG of 16 bits: colour 0 grey, 2 RGB, 4 grey with alpha, 6 RGB with alpha."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))

    return b"\x89PNG\r\n\x1a\n" + header + tail + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("top", [255, 4095, 65535])
def test_every_png_of_16_bits_spans_black_to_white(tmp_path: Path, colour: int, channels: int, top: int) -> None:
    path = tmp_path / "a.png"
    grey = np.linspace(0, top, 256).astype(np.uint16).reshape(16, 16)
    samples = np.repeat(grey[..., None], channels, axis=2)
    if channels in (2, 4):
        samples[..., -1] = 65535
    path.write_bytes(deep_png(samples, colour))
    expected = np.rint(grey / top * 255)
    assert np.abs(read_image(path) - expected).max() <= 1


def test_a_png_of_16_bits_with_alpha_is_turned_by_its_exif_orientation(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    samples = np.zeros((2, 3, 2), dtype=np.uint16)
    samples[..., 0] = np.arange(6).reshape(2, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    path.write_bytes(deep_png(samples, 4, chunk))
    assert read_image(path).tolist() == np.rot90(np.arange(6).reshape(2, 3) * 51, -1).tolist()


@pytest.mark.parametrize("mode", ["1", "P", "LA", "L", "RGB"])
def test_every_kind_of_png_of_8_bits_becomes_grey(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert(mode).save(path)
    assert read_image(path).tolist() == [[0, 255]]


def test_a_jpeg_in_cmyk_becomes_grey(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    grey = Image.fromarray(np.tile(np.array([[0, 255]], dtype=np.uint8).repeat(16, 1), (16, 1)))
    grey.convert("RGB").convert("CMYK").save(path, quality=95)
    image = read_image(path)
    assert image[:, 4].max() < 20
    assert image[:, 28].min() > 235


def test_a_moving_png_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    frames = [Image.new("L", (8, 8), value) for value in (10, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="several frames"):
        read_image(path)


@pytest.mark.parametrize(("size", "problem"), [((9000, 8000), "more than 67108864 pixels"), ((6000, 6000), "grows")])
def test_a_png_that_grows_a_thousandfold_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], problem: str
) -> None:
    path = tmp_path / "a.png"
    Image.new("L", size).save(path)
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(ImageError, match=problem):
        read_image(path)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_png_whose_text_grows_a_thousandfold_takes_no_memory(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "a.png"
    packed = zlib.compress(bytes(2**26), 9)
    body = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\x01\0\0\0", b"iCCP": b"k\0\0"}[kind] + packed
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(deep_png(np.arange(6, dtype=np.uint16).reshape(2, 3, 1), 0, chunk))
    tracemalloc.start()
    with suppress(ImageError):
        read_image(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


def test_a_file_larger_than_any_radiograph_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.truncate(2**28 + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read"))
    with pytest.raises(ImageError, match="more than 268435456 bytes"):
        read_image(path)


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "pipe")


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("shape", [(30, 30), (30, 20), (20, 30)])
def test_an_image_of_one_value_is_blank_also_within_its_borders(value: int, shape: tuple[int, int]) -> None:
    assert is_blank(fit(np.full(shape, value, dtype=np.uint8), 32))


def test_an_image_that_shows_something_is_not_blank() -> None:
    collimated = np.zeros((64, 64), dtype=np.uint8)
    collimated[24:40, 24:40] = np.arange(256).reshape(16, 16)
    assert not is_blank(collimated)


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


def test_a_truncated_image_is_damaged_also_where_another_library_tolerates_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ImageError, match="damaged image file"):
        read_image(path)


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
    rows = np.flatnonzero(square.any(axis=1))
    columns = np.flatnonzero(square.any(axis=0))

    for found, side in ((rows, height), (columns, width)):
        exact = side * size / max(height, width)
        assert max(1.0, exact - 0.5) <= len(found) <= max(1.0, exact + 0.5)
        assert abs(found[0] - (size - 1 - found[-1])) <= 1  # as much black on one side as on the other


def test_fit_averages_areas() -> None:
    assert fit(np.array([[0, 100], [200, 100]], dtype=np.uint8).repeat(8, 0).repeat(8, 1), 1).tolist() == [[100]]
    assert fit(np.tile(np.array([[0, 100]], dtype=np.uint8), (4, 2)), 2).tolist() == [[50, 50], [50, 50]]
