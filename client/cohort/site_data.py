"""The studies of a site: who is in which set, and the tensors that training and scoring use."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.cohort.site_consent import SiteConsent
from client.cohort.site_files import drop_studies, read_site
from client.revocations.access import Access
from client.revocations.tombstones.overview import cohort_lock
from client.settings import SiteFolder
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.tensors import StudyTensors
from common.learning.data.tokenizer import load_tokenizer
from common.learning.device import pick_device
from common.learning.model.pinned_encoders import embeddings_of
from common.learning.records import Study, Subset

_MOST_SETS = 16
"""Sets of tensors kept at a time; a revocation changes a set, and the old tensors are of no more use."""


class SiteData:
    """The cohort registered in `folder`, without the patients who have revoked.

    Patients who have revoked can only be reached by an `Access`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read()
        self.consent = SiteConsent(SiteFolder(folder), self.file.subsets)
        card = self.file.card
        place = SiteFolder(folder)
        self.device = pick_device(place.settings().device if place.settings_file.exists() else self.file.device)
        self.tokenizer = load_tokenizer(card.data.tokenizer, card.data.max_tokens)
        self.cache = ImageCache(folder / self.file.cache, card.data.image_size, card.data.cache_bytes)
        self.embeddings = embeddings_of(card, self.cache, self.tokenizer, self.device)

    def _read(self) -> None:
        self.file = read_site(self.folder)
        self.cohort = self.file.cohort
        self._present = frozenset(self.cohort.patients)
        self._tensors: dict[frozenset[str], StudyTensors] = {}

    def registered(self, subset: Subset) -> frozenset[str]:
        """Patients of a set whose studies are here; the set also remembers patients of earlier manifests."""
        return frozenset(p for p, s in self.file.subsets.items() if s is subset) & self._present

    def patients(self, subset: Subset) -> frozenset[str]:
        """Patients of one of the five sets who have not revoked."""
        return self.registered(subset) - self.consent.stopped()

    def to_learn(self, subset: Subset, campaign: int, reference: int | None = None) -> StudyTensors | None:
        """A set to learn from, or None if it is empty. Patients who revoke meanwhile are in no later batch.

        Patients readmitted since the campaign began wait for the next one. For a `reference` model the set is the half
        of the patients that it is trained on. The method accepts no patients, so that nobody can pass it patients who
        have revoked.
        """
        patients = self.patients(subset) - self.consent.readmitted_during(campaign)
        if reference is not None:
            patients = frozenset(p for p in patients if _in_half(self.file.name, p, reference))
        return self._studies(patients)

    def to_score(self, subset: Subset) -> StudyTensors | None:
        """A set to score, or None if it is empty."""
        return self._studies(self.patients(subset))

    def to_forget(self, access: Access) -> StudyTensors | None:
        """The patients of an access who were trained on, or None. Nothing keeps these tensors."""
        of_train = self.registered(Subset.TRAIN)
        studies = tuple(study for study in access.studies(self.cohort) if study.patient in of_train)
        if not studies:
            return None
        return self.tensors(studies, branches=access.branches(studies))

    def tensors(
        self,
        studies: tuple[Study, ...],
        withdrawn: Callable[[], frozenset[str]] | None = None,
        branches: NDArray[np.bool_] | None = None,
    ) -> StudyTensors:
        """Studies as this site's model reads them; see `StudyTensors`."""
        return StudyTensors(studies, self.cache, self.tokenizer, withdrawn, branches, self.embeddings)

    def image_digests(self) -> Callable[[Path], str]:
        """Gives the SHA-256 of an image file, as noted at its import; computed if it was not noted."""
        noted = {Path(row.image): row.digest for row in self.file.studies if row.digest}
        return lambda image: noted.get(image) or self.cache.digest(image)

    def discard_waiting(self) -> dict[str, int]:
        """Delete pixels and embeddings of patients who wait for a campaign, if they can be made again."""
        waiting = self.cohort.of(self.consent.stopped() - self.consent.done()).studies
        there = {study for study in waiting if study.image.is_file()}
        counts = {"pixels": self.cache.discard({study.image for study in there})}
        if self.embeddings is not None:
            of_files = {self.cache.digest(study.image) for study in there}
            counts["embeddings"] = self.embeddings.cache.discard_studies(of_files, {study.report for study in there})

        return counts

    def purge(self, patients: Collection[str]) -> dict[str, int]:
        """Delete pixels, embeddings, reports and tokens of patients; the hospital's own records are not touched.

        Raises:
            OutputError: they cannot be deleted.
        """
        gone = self.cohort.of(patients).studies
        of_files = {self.cache.digest(study.image) for study in gone if study.image.is_file()}
        of_import = {row.digest for row in self.file.studies if row.patient in patients}
        images = (of_files | of_import) - {""}
        counts = {"pixels": self.cache.discard_digests(images)}
        if self.embeddings is not None:
            counts["embeddings"] = self.embeddings.cache.discard_studies(images, {study.report for study in gone})

        with cohort_lock(SiteFolder(self.folder)):
            counts["studies"] = drop_studies(self.folder, patients)
        self._read()

        return counts

    def _studies(self, patients: frozenset[str]) -> StudyTensors | None:
        if not patients:
            return None
        if patients not in self._tensors:
            if len(self._tensors) > _MOST_SETS:
                self._tensors.clear()
            studies = self.cohort.of(patients).studies
            self._tensors[patients] = self.tensors(studies, self.consent.stopped)

        return self._tensors[patients]


def _in_half(site: str, patient: str, reference: int) -> bool:
    """Whether a patient is in the random half that reference model `reference` is trained on."""
    # A hash instead of a generator: the half must not depend on who else is registered or has revoked.
    return hashlib.sha256(f"{site}/{patient}/reference/{reference}".encode()).digest()[0] % 2 == 0
