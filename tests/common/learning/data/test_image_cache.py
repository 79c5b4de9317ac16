import multiprocessing
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import ConfigError, ImageError, OutputError
from common.learning.data.imaging import image_cache
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.imaging.images import fit, read_image

SIZE = 16
ENTRY = 32 + SIZE * SIZE


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"muster-{i}.png" for i in range(12)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 30), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return ImageCache(tmp_path / "cache", SIZE, 100 * ENTRY)


def entries(cache: ImageCache) -> list[Path]:
    return sorted(path for path in cache.root.iterdir() if path.name != ".lock")


@contextmanager
def counted_decodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    decoded: list[Path] = []

    def read(path: Path) -> np.ndarray:
        decoded.append(path)
        return read_image(path)

    monkeypatch.setattr(image_cache, "read_image", read)
    yield decoded


def test_pixels_are_those_of_the_fitted_image_and_read_only(cache: ImageCache, images: list[Path]) -> None:
    pixels = cache.fetch(images[0])
    assert (pixels == fit(read_image(images[0]), SIZE)).all()
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0] = 1


def test_an_image_is_decoded_once_also_by_another_cache_object(
    cache: ImageCache, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted_decodes(monkeypatch) as decoded:
        cache.fetch(images[0])
        cache.fetch(images[0])
        ImageCache(cache.root, SIZE, 100 * ENTRY).fetch(images[0])

    assert decoded == [images[0]]


def test_the_same_content_under_two_names_is_one_entry(cache: ImageCache, images: list[Path]) -> None:
    images[1].write_bytes(images[0].read_bytes())
    cache.warm(images[:2])
    assert len(entries(cache)) == 1


def test_a_changed_file_gets_new_pixels(cache: ImageCache, images: list[Path]) -> None:
    before = np.array(cache.fetch(images[0]))
    images[0].write_bytes(images[1].read_bytes())
    os.utime(images[0], ns=(0, 0))
    assert (cache.fetch(images[0]) != before).any()


def test_sizes_do_not_mix(cache: ImageCache, images: list[Path]) -> None:
    larger = ImageCache(cache.root, 2 * SIZE, 100 * ENTRY)
    assert cache.fetch(images[0]).shape == (SIZE, SIZE)
    assert larger.fetch(images[0]).shape == (2 * SIZE, 2 * SIZE)


def test_another_version_of_the_transform_is_another_entry(
    cache: ImageCache, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.fetch(images[0])
    monkeypatch.setattr(image_cache, "TRANSFORM", 1)
    cache.fetch(images[0])
    assert len(entries(cache)) == 2


def test_names_hold_a_digest_and_no_patient_and_only_the_owner_may_read(cache: ImageCache, images: list[Path]) -> None:
    cache.warm(images)
    for path in entries(cache):
        digest, size, version = path.name.split("-")
        assert (len(bytes.fromhex(digest)), size, version) == (32, "16", "v2")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    assert stat.S_IMODE(cache.root.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", ["flip", "short", "empty", "long"])
def test_a_damaged_entry_is_rebuilt(cache: ImageCache, images: list[Path], damage: str) -> None:
    expected = np.array(cache.fetch(images[0]))
    [entry] = entries(cache)
    data = bytearray(entry.read_bytes())
    if damage == "flip":
        data[100] ^= 1
    damaged = {"flip": bytes(data), "short": bytes(data[:200]), "empty": b"", "long": bytes(data[:32]) + bytes(1000)}
    entry.write_bytes(damaged[damage])
    assert (cache.fetch(images[0]) == expected).all()
    assert len(entry.read_bytes()) == ENTRY
    assert stored_total(cache) >= ENTRY


def test_the_bound_holds_and_the_least_recently_used_go(tmp_path: Path, images: list[Path]) -> None:
    cache = ImageCache(tmp_path / "cache", SIZE, 5 * ENTRY)
    for image in images[:5]:
        cache.fetch(image)
    for age, image in enumerate([images[2], images[0], images[1], images[3], images[4]]):
        [entry] = cache.root.glob(f"{cache.digest(image)}-*")
        os.utime(entry, ns=(0, age))

    cache.fetch(images[2])  # used now: the oldest no more
    cache.fetch(images[5])
    kept = {path.name.split("-")[0] for path in entries(cache)}
    assert cache.digest(images[0]) not in kept
    assert {cache.digest(images[i]) for i in (2, 4, 5)} <= kept

    for image in images:
        cache.fetch(image)
        assert used(cache) <= 5 * ENTRY
        assert stored_total(cache) == used(cache)


def test_pixels_are_mapped_and_hold_no_descriptor(cache: ImageCache, images: list[Path]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    pixels = [cache.fetch(image) for image in images]
    maps = Path("/proc/self/maps").read_text()
    assert all(str(entry) in maps for entry in entries(cache))
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(pixels) == len(images)


def test_a_map_outlives_its_evicted_entry(tmp_path: Path, images: list[Path]) -> None:
    cache = ImageCache(tmp_path / "cache", SIZE, ENTRY)
    first = cache.fetch(images[0])
    cache.fetch(images[1])
    assert len(entries(cache)) == 1
    assert (first == fit(read_image(images[0]), SIZE)).all()


def test_a_bound_below_one_image_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="do not hold one image"):
        ImageCache(tmp_path / "cache", SIZE, ENTRY - 1)


def test_a_lost_or_garbled_total_is_counted_again(cache: ImageCache, images: list[Path]) -> None:
    cache.warm(images[:3])
    (cache.root / ".lock").write_bytes(b"garbled")
    cache.fetch(images[3])
    assert stored_total(cache) == 4 * ENTRY


def test_what_a_killed_writer_left_goes_with_the_next_eviction(tmp_path: Path, images: list[Path]) -> None:
    cache = ImageCache(tmp_path / "cache", SIZE, 2 * ENTRY)
    cache.fetch(images[0])
    half = cache.root / f".{cache.digest(images[9])}-{SIZE}-v1"
    half.write_bytes(b"half")
    cache.warm(images[1:3])
    assert not half.exists()


def test_discard_deletes_the_pixels_of_all_sizes_and_spares_the_others(cache: ImageCache, images: list[Path]) -> None:
    larger = ImageCache(cache.root, 2 * SIZE, 100 * ENTRY)
    cache.warm(images[:3])
    larger.warm(images[:3])
    (cache.root / f".{cache.digest(images[0])}-99-v1").write_bytes(b"half")
    assert cache.discard(images[:2]) == 5
    assert {path.name.split("-")[0] for path in entries(cache)} == {cache.digest(images[2])}
    assert cache.discard(images[:2]) == 0


def test_discard_of_a_file_that_is_gone_says_so(cache: ImageCache, images: list[Path]) -> None:
    cache.warm(images[:1])
    images[0].unlink()
    with pytest.raises(ImageError, match="missing image file") as caught:
        cache.discard(images[:1])
    assert "muster" not in str(caught.value)


def test_warming_counts_and_names_a_bad_image_by_its_place(cache: ImageCache, images: list[Path]) -> None:
    seen: list[int] = []
    cache.warm(images, seen.append)
    assert seen == list(range(1, 13))
    images[7].write_bytes(b"broken")
    images[9].unlink()
    Image.new("L", (40, 30), 128).save(images[11])
    with pytest.raises(ImageError, match=r"^studies.csv row 9: not a PNG") as caught:
        cache.warm(images, place=lambda index: f"studies.csv row {index + 2}")
    assert "2 more rows" in str(caught.value)
    assert "muster" not in str(caught.value)
    with pytest.raises(ImageError, match=r"^image 8: "):
        cache.warm(images)


def test_a_blank_image_is_refused_by_its_place_also_when_it_is_in_the_cache(
    cache: ImageCache, images: list[Path]
) -> None:
    Image.new("L", (40, 30), 128).save(images[3])
    cache.fetch(images[3])
    with pytest.raises(ImageError, match=r"^image 4: blank image"):
        cache.warm(images)


def test_a_full_disk_is_an_output_error_and_leaves_nothing_half_written(cache: ImageCache, images: list[Path]) -> None:
    cache.fetch(images[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # the kernel stops writes at 100 bytes

    try:
        with pytest.raises(OutputError, match=r"the disk is full.*the image cache was not written"):
            cache.fetch(images[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert len(entries(cache)) == 1
    assert stored_total(cache) == ENTRY
    assert cache.fetch(images[1]).shape == (SIZE, SIZE)


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write the image cache"):
        ImageCache(tmp_path / "file" / "cache", SIZE, ENTRY)


def test_several_processes_fill_one_bounded_cache_together(tmp_path: Path, images: list[Path]) -> None:
    bound = 4 * ENTRY
    root = tmp_path / "cache"
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    workers = [context.Process(target=fetch_over_and_over, args=(root, bound, images, i, barrier)) for i in range(2)]
    for worker in workers:
        worker.start()
    barrier.wait(timeout=60)
    for worker in workers:
        worker.join(timeout=60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    cache = ImageCache(root, SIZE, bound)
    assert used(cache) <= bound
    assert stored_total(cache) == used(cache)
    assert not [path for path in entries(cache) if path.name.startswith(".")]


def test_a_writer_killed_at_work_does_no_harm(tmp_path: Path, images: list[Path]) -> None:
    root = tmp_path / "cache"
    code = (
        "import sys; from pathlib import Path; from common.learning.data.imaging.image_cache import ImageCache\n"
        f"cache = ImageCache(Path(sys.argv[1]), {SIZE}, {3 * ENTRY})\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    for image in sys.argv[2:]: cache.fetch(Path(image))\n"
    )
    repository = Path(image_cache.__file__).parents[2]
    command = [sys.executable, "-c", code, str(root), *map(str, images)]

    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=repository) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        cache = ImageCache(root, SIZE, 3 * ENTRY)
        for image in images * 5:
            assert (cache.fetch(image) == fit(read_image(image), SIZE)).all()
        process.kill()

    for image in images:
        assert (cache.fetch(image) == fit(read_image(image), SIZE)).all()
    assert used(cache) <= 3 * ENTRY


def used(cache: ImageCache) -> int:
    return sum(path.stat().st_size for path in entries(cache))


def stored_total(cache: ImageCache) -> int:
    return int((cache.root / ".lock").read_bytes())


def fetch_over_and_over(root: Path, bound: int, images: list[Path], seed: int, barrier: Barrier) -> None:
    cache = ImageCache(root, SIZE, bound)
    barrier.wait(timeout=60)
    for i in np.random.default_rng(seed).integers(0, len(images), 200):
        if not (cache.fetch(images[i]) == fit(read_image(images[i]), SIZE)).all():
            raise SystemExit(3)
