"""Images that are there twice, and patients under two ids: found before splitting, so that no set leaks into another.

Two images are near-duplicates when at most `MAX_BITS` of their 288-bit difference hashes differ *and* their 32 x 32
thumbnails correlate by `MIN_CORRELATION` or more; black borders are cut off first. Chest radiographs look alike, so
both limits were measured, on the 287 real radiographs of 146 patients of the COVID-19 Image Data Collection (Cohen et
al. 2020, https://arxiv.org/abs/2006.11988), fitted to 96 pixels:

- of 40,762 pairs of different patients none passes; the closest differ in 35 bits, or correlate by .941;
- of 279 pairs of one patient 4 pass, all the same exposure (at most 6 bits, .9999); the next differs in 39 bits, .919;
- an image against itself is found in 100 % after JPEG at quality 50, 99 % after halving its size, 98 % after a gamma
  of 0.7, 96 % after a change of brightness and contrast, 80 % after 2 % is cut off each edge, and only 2 % after 5 %.

So a pair that is reported deserves a look, and a crop may go unreported. Another collection may need other limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from common.learning.data.imaging.image_cache import ImageCache
from common.learning.records import Cohort

MAX_BITS = 28
MIN_CORRELATION = 0.95
_HASH = 12
_THUMBNAIL = 32
# Grey values up to this are border: JPEG leaves traces of the image in it.
_BORDER = 32
# Distances held in memory at a time.
_BLOCK = 2**24

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """Pairs of rows of a cohort, the earlier row first, sorted.

    Attributes:
        exact: image files of the same content; each row with the first that has it.
        near: images of another content that look the same.
        two_ids: those of both kinds whose patients differ: one person under two ids, or an image filed wrongly.
    """

    exact: tuple[Pair, ...]
    near: tuple[Pair, ...]
    two_ids: tuple[Pair, ...]

    @property
    def summary(self) -> str:
        """One line of counts."""
        return (
            f"{len(self.exact)} exact and {len(self.near)} near-duplicate images, "
            f"{len(self.two_ids)} of them between patients of different ids"
        )


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """What images are compared by: `bits` as -1 and +1 `[n, 288]`, `thumbnails` of length 1 `[n, 1024]`."""

    bits: NDArray[np.float32]
    thumbnails: NDArray[np.float32]


def find_duplicates(cohort: Cohort, cache: ImageCache) -> DuplicateReport:
    """Compare all images of a cohort with each other.

    Raises:
        ImageError: an image cannot be read.
        OutputError: the cache cannot be written.
    """
    images = [study.image for study in cohort.studies]
    patients = [study.patient for study in cohort.studies]
    exact = exact_pairs([cache.digest(image) for image in images])
    later = {row for _, row in exact}
    # An exact copy would pair with everything that its original pairs with.
    distinct = [row for row in range(len(images)) if row not in later]
    near = near_pairs(fingerprints(cache.fetch(images[row]) for row in distinct))
    near = [(distinct[i], distinct[j]) for i, j in near]
    two_ids = sorted(pair for pair in [*exact, *near] if patients[pair[0]] != patients[pair[1]])

    return DuplicateReport(tuple(exact), tuple(near), tuple(two_ids))


def patient_groups(cohort: Cohort, report: DuplicateReport) -> dict[str, str]:
    """Patients that a split must keep together, each with the first patient of its group; the others are left out."""
    number = {patient: i for i, patient in enumerate(cohort.patients)}
    of_row = [number[study.patient] for study in cohort.studies]
    links = np.array([(of_row[i], of_row[j]) for i, j in report.two_ids], dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(len(number), len(number)))
    _, component = connected_components(graph, directed=False)
    first: dict[int, str] = {}
    for patient, group in zip(cohort.patients, component, strict=True):
        first.setdefault(int(group), patient)
    in_links = {patient for pair in links for patient in pair}

    return {p: first[int(component[number[p]])] for p in cohort.patients if number[p] in in_links}


def exact_pairs(digests: Sequence[str]) -> list[Pair]:
    """Rows whose digest an earlier row has, each with the first such row."""
    first: dict[str, int] = {}
    pairs = [(first.setdefault(digest, row), row) for row, digest in enumerate(digests)]
    return sorted(pair for pair in pairs if pair[0] != pair[1])


def fingerprints(images: Iterable[NDArray[np.uint8]]) -> Fingerprints:
    """Fingerprints of greyscale images `[height, width]` of any size; a blank one is like no other."""
    bits = []
    thumbnails = []

    for image in images:
        inside = Image.fromarray(_without_border(image))
        across = _shrunk(inside, _HASH + 1, _HASH)
        down = _shrunk(inside, _HASH, _HASH + 1)
        rises = np.concatenate([np.diff(across, axis=1).ravel(), np.diff(down, axis=0).ravel()]) > 0
        bits.append(np.where(rises, np.float32(1), np.float32(-1)))
        thumbnail = _shrunk(inside, _THUMBNAIL, _THUMBNAIL).ravel()
        thumbnail -= thumbnail.mean()
        thumbnails.append(thumbnail / max(float(np.linalg.norm(thumbnail)), 1e-6))

    return Fingerprints(
        np.array(bits, dtype=np.float32).reshape(-1, 2 * _HASH**2),
        np.array(thumbnails, dtype=np.float32).reshape(-1, _THUMBNAIL**2),
    )


def near_pairs(prints: Fingerprints) -> list[Pair]:
    """Pairs of near-duplicates, sorted. Distances come from matrix products, a block of rows at a time."""
    bits = prints.bits
    thumbnails = prints.thumbnails
    agreement = bits.shape[1] - 2 * MAX_BITS  # the product of two hashes of -1 and +1 that differ in MAX_BITS
    block = max(1, _BLOCK // max(1, len(bits)))
    pairs: list[Pair] = []

    for start in range(0, len(bits), block):
        rows, columns = np.nonzero(bits[start : start + block] @ bits[start:].T >= agreement)
        keep = rows < columns
        earlier = rows[keep] + start
        later = columns[keep] + start
        alike = np.einsum("ij,ij->i", thumbnails[earlier], thumbnails[later]) >= MIN_CORRELATION
        pairs += zip(earlier[alike].tolist(), later[alike].tolist(), strict=True)

    return sorted(pairs)


def _without_border(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    bright = image > _BORDER
    rows = np.flatnonzero(bright.any(axis=1))
    columns = np.flatnonzero(bright.any(axis=0))
    if not rows.size:
        return image
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _shrunk(image: Image.Image, width: int, height: int) -> NDArray[np.float32]:
    return np.asarray(image.resize((width, height), Image.Resampling.BOX), dtype=np.float32)
