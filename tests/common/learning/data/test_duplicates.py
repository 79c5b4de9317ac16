import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from common.learning.data.imaging.duplicates import (
    MAX_BITS,
    DuplicateReport,
    Fingerprints,
    exact_pairs,
    find_duplicates,
    fingerprints,
    near_pairs,
    patient_groups,
)
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.imaging.images import fit, read_image
from common.learning.data.tables.manifest import Manifest
from common.learning.records import Cohort, Study


def scene(seed: int) -> NDArray[np.uint8]:
    """Soft blobs, which survive compression as a radiograph's shadows do."""
    coarse = np.random.default_rng(seed).integers(40, 256, (9, 7), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((210, 270), Image.Resampling.BICUBIC))


def recompressed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=50)
    return np.asarray(Image.open(buffer))


def cohort_of(folder: Path, files: dict[str, bytes], patients: list[str]) -> Cohort:
    studies = []
    for (name, content), patient in zip(files.items(), patients, strict=True):
        (folder / name).write_bytes(content)
        studies.append(Study(patient, name, folder / name, "Clear.", 0))

    return Cohort(tuple(studies), ("0",))


def png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_exact_near_and_two_ids_are_told_apart(tmp_path: Path) -> None:
    files = {
        "0": png(scene(0)),
        "1": png(scene(1)),
        "2": png(scene(0)),
        "3": png(recompressed(scene(1))),
        "4": png(scene(2)),
        "5": png(scene(0)),
    }
    cohort = cohort_of(tmp_path, files, ["a", "b", "a", "c", "d", "e"])
    report = find_duplicates(cohort, ImageCache(tmp_path / "cache", 96, 2**20))
    assert report == DuplicateReport(exact=((0, 2), (0, 5)), near=((1, 3),), two_ids=((0, 5), (1, 3)))
    assert report.summary == "2 exact and 1 near-duplicate images, 2 of them between patients of different ids"
    assert patient_groups(cohort, report) == {"a": "a", "b": "b", "c": "b", "e": "a"}


def test_groups_are_transitive_and_leave_out_the_others() -> None:
    cohort = Cohort(tuple(Study(p, p, Path(p), "", 0) for p in "abcdef"), ("0",))
    report = DuplicateReport(exact=((0, 2),), near=((2, 4), (1, 5)), two_ids=((0, 2), (1, 5), (2, 4)))
    assert patient_groups(cohort, report) == {"a": "a", "b": "b", "c": "a", "e": "a", "f": "b"}
    assert patient_groups(cohort, DuplicateReport((), (), ())) == {}


@pytest.mark.parametrize(
    "change",
    [
        recompressed,
        lambda image: np.asarray(Image.fromarray(image).resize((105, 135), Image.Resampling.BILINEAR)),
        lambda image: np.pad(image, ((0, 0), (40, 90))),
        lambda image: (255 * (image / 255) ** 0.7).astype(np.uint8),
    ],
    ids=["recompressed", "halved", "padded", "gamma"],
)
def test_a_changed_copy_is_found_and_only_it(change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> None:
    images = [scene(seed) for seed in range(10)]
    copy = change(images[3])
    assert near_pairs(fingerprints(fit(image, 96) for image in [*images, copy])) == [(3, 10)]


def test_the_limit_of_bits_is_met_exactly() -> None:
    bits = np.ones((3, 288), dtype=np.float32)
    bits[1, :MAX_BITS] = -1
    bits[2, 100 : 100 + MAX_BITS + 1] = -1
    thumbnails = np.full((3, 4), 0.5, dtype=np.float32)
    assert near_pairs(Fingerprints(bits, thumbnails)) == [(0, 1)]


def test_the_same_hash_without_correlation_is_no_duplicate() -> None:
    thumbnails = np.array([[1, 0], [0.9, np.sqrt(1 - 0.81)], [0.96, 0.28]], dtype=np.float32)
    assert near_pairs(Fingerprints(np.ones((3, 288), dtype=np.float32), thumbnails)) == [(0, 2), (1, 2)]


def test_blocks_give_what_one_product_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [scene(seed % 7) for seed in range(20)]
    prints = fingerprints(images)
    whole = near_pairs(prints)
    monkeypatch.setattr("common.learning.data.imaging.duplicates._BLOCK", 60)
    assert near_pairs(prints) == whole
    assert whole == [(i, j) for i in range(20) for j in range(i + 1, 20) if i % 7 == j % 7]


def test_blank_images_are_like_no_other() -> None:
    blank = np.zeros((96, 96), dtype=np.uint8)
    assert near_pairs(fingerprints([blank, blank, scene(0)])) == []
    assert near_pairs(fingerprints([])) == []


def test_each_exact_copy_is_paired_with_the_first() -> None:
    assert exact_pairs(["x", "y", "x", "x", "z"]) == [(0, 2), (0, 3)]


def test_real_radiographs_of_different_patients_are_not_taken_for_duplicates(covid: Manifest, tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "cache", 96, 2**24)
    report = find_duplicates(covid.cohort, cache)
    assert (report.exact, report.two_ids) == ((), ())
    assert len(report.near) == 4


def test_a_real_radiograph_saved_again_is_found(covid: Manifest) -> None:
    images = [read_image(study.image) for study in covid.cohort.studies[:40]]
    copies = [recompressed(image) for image in images]
    found = set(near_pairs(fingerprints(fit(image, 96) for image in [*images, *copies])))
    assert {(i, i + 40) for i in range(40)} <= found
