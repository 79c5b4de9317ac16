"""The studies of a site: who is in which set, and the tensors that training and scoring use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.cohort.scores.fold_scores import FoldScores
from client.cohort.site_consent import SiteConsent
from client.cohort.site_files import drop_studies, read_site
from client.revocations.access import Access
from client.revocations.tombstones.overview import cohort_lock
from client.settings import SiteFolder
from common.errors import RefusedError
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.tensors import StudyTensors
from common.learning.data.tokenizer import load_tokenizer
from common.learning.device import pick_device
from common.learning.folds.assignment import assign_folds, same_images
from common.learning.model.pinned_encoders import embeddings_of
from common.learning.records import Study, Subset
from common.protocol.messages import FoldModel

_MOST_SETS = 32
"""Sets of tensors kept at a time; a revocation changes a set, and the old tensors are of no more use."""


@dataclass(frozen=True, slots=True)
class FoldPart:
    """A fold model of a lineage, which divides the training patients into its own fold and the others."""

    lineage: str
    model: FoldModel


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
        place = SiteFolder(folder)
        self.fold_scores = FoldScores(place, lambda name: self.consent.pseudonym(name) if place.has_database else name)

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

    def to_learn(self, subset: Subset, campaign: int, fold: FoldPart | None = None) -> StudyTensors | None:
        """A set to learn from, or None if it is empty. Patients who revoke meanwhile are in no later batch.

        Patients readmitted since the campaign began wait for the next one. A fold model learns from those who are in
        another `fold` than its own. The method accepts no patients, so that nobody can pass any who have revoked.
        """
        patients = self.patients(subset) - self.consent.readmitted_during(campaign)
        return self._studies(patients if fold is None else patients & self._in_folds(fold, own=False))

    def to_score(self, subset: Subset, fold: FoldPart | None = None) -> StudyTensors | None:
        """A set to score, or None if it is empty; with `fold`, those whom its model never saw."""
        patients = self.patients(subset)
        return self._studies(patients if fold is None else patients & self._in_folds(fold, own=True))

    def to_learn_without(self, drawn: frozenset[str]) -> StudyTensors | None:
        """All training patients but those whom a rehearsal forgets; None if there are no others."""
        return self._studies(self.patients(Subset.TRAIN) - drawn)

    def rehearsed(self, drawn: frozenset[str]) -> StudyTensors:
        """Patients of a rehearsal, in the order of their studies. Whoever revokes meanwhile is in no later batch.

        Raises:
            RefusedError: one of them has revoked, or is not in training.
        """
        if not drawn or drawn - self.patients(Subset.TRAIN):
            raise RefusedError("a rehearsal only reads training patients who have not revoked")
        return StudyTensors(self.cohort.of(drawn).studies, self.cache, self.tokenizer, self.consent.stopped)

    def by_name(self, subset: Subset) -> dict[str, str]:
        """Patients of a set who have not revoked, by the names that their fold scores have."""
        return {self.fold_scores.name_of(patient): patient for patient in self.patients(subset)}

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
        digests_by_image = {Path(row.image): row.digest for row in self.file.studies if row.digest}
        return lambda image: digests_by_image.get(image) or self.cache.digest(image)

    def discard_waiting(self) -> dict[str, int]:
        """Delete pixels and embeddings of patients who wait for a campaign, if they can be made again."""
        waiting = self.cohort.of(self.consent.stopped() - self.consent.done()).studies
        # Without their file, pixels could not be decoded again for the campaign that needs them.
        there = {study for study in waiting if study.image.is_file()}
        counts = {"pixels": self.cache.discard({study.image for study in there})}
        if self.embeddings is not None:
            of_files = {self.cache.digest(study.image) for study in there}
            counts["embeddings"] = self.embeddings.cache.discard_studies(of_files, {study.report for study in there})

        return counts

    def purge(self, patients: Collection[str]) -> dict[str, int]:
        """Delete pixels, embeddings, reports, tokens and fold scores of patients, but none of the hospital's records.

        Raises:
            OutputError: they cannot be deleted.
        """
        studies_gone = self.cohort.of(patients).studies
        of_files = {self.cache.digest(study.image) for study in studies_gone if study.image.is_file()}
        # A file may be gone: the digest that was noted at the import still finds its pixels.
        of_import = {row.digest for row in self.file.studies if row.patient in patients}
        images = (of_files | of_import) - {""}
        counts = {"pixels": self.cache.discard_digests(images)}
        if self.embeddings is not None:
            counts["embeddings"] = self.embeddings.cache.discard_studies(
                images, {study.report for study in studies_gone}
            )

        # An import may be writing the same file.
        with cohort_lock(SiteFolder(self.folder)):
            counts["studies"] = drop_studies(self.folder, patients)
        self._read()
        counts["fold_scores"] = self.fold_scores.purge(patients)

        return counts

    def _in_folds(self, part: FoldPart, *, own: bool) -> frozenset[str]:
        """Patients of a model's own fold, or of all others; nobody who was not dealt to any."""
        model = part.model
        fold_of = self.fold_scores.folds(part.lineage, model.family, partial(self._deal, part))
        names = {name for name, fold in fold_of.items() if (fold == model.number) == own}
        return frozenset(p for p in self.registered(Subset.TRAIN) if self.fold_scores.name_of(p) in names)

    def _deal(self, part: FoldPart) -> dict[str, int]:
        images: dict[str, set[str]] = defaultdict(set)
        for row in self.file.studies:
            if row.digest:
                images[row.patient].add(row.digest)
        # Patients with the same image share a fold: a model must not score an image that it has learned.
        groups = same_images({patient: frozenset(digests) for patient, digests in images.items()})
        cohort = self.cohort.of(self.patients(Subset.TRAIN))

        return assign_folds(cohort, part.model.of, lineage=part.lineage, family=part.model.family, groups=groups)

    def _studies(self, patients: frozenset[str]) -> StudyTensors | None:
        if not patients:
            return None
        if patients not in self._tensors:
            if len(self._tensors) > _MOST_SETS:
                self._tensors.clear()
            studies = self.cohort.of(patients).studies
            self._tensors[patients] = self.tensors(studies, self.consent.stopped)

        return self._tensors[patients]
