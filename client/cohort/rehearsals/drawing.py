"""Who is drawn for a rehearsal at a site, and who is left to retain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from client.cohort.rehearsals.rehearsal_files import RehearsalFiles, original_of
from client.cohort.site_data import SiteData
from common.errors import CohortError, RefusedError
from common.learning.data.tensors import StudyTensors
from common.learning.device import derive_seed
from common.learning.records import Subset
from common.protocol.rehearsals import Rehearsal, RehearseRequest


@dataclass(frozen=True, slots=True)
class Drawing:
    """Draws the patients of the rehearsals of one qualification at one site, and keeps who was drawn."""

    data: SiteData
    files: RehearsalFiles
    request: RehearseRequest

    def forget(self, one: Rehearsal) -> StudyTensors | None:
        """The patients of a rehearsal, drawn at the first call; None if there are too few, or one has revoked since."""
        names = self.files.drawn().get(one.number)
        if names is None:
            names = self._draw(one)
            if not names:
                return None
            self.files.keep_drawn(one.number, names)
        patients = self._patients(names)

        return None if patients is None else self.data.rehearsed(patients)

    def _draw(self, one: Rehearsal) -> list[str]:
        """Random patients who can be compared, by the names that fold scores have.

        The coordinator knows the seed, and not the order that the site's secret gives the names.
        """
        eligible = self._eligible()
        before = {name for names in self.files.drawn().values() for name in names}
        fresh = sorted(eligible - before)
        # Nobody is drawn twice while there are enough others.
        pool = fresh if len(fresh) >= one.patients else sorted(eligible)
        if len(pool) < one.patients or len(eligible) <= 2 * one.patients:
            return []
        rng = np.random.default_rng(derive_seed(one.seed, self.data.file.name, "draw"))

        return [pool[at] for at in rng.choice(len(pool), one.patients, replace=False)]

    def _eligible(self) -> set[str]:
        """Training patients with an audit fold and never-seen patients of their label to compare with."""
        original_scores = self.files.get(original_of(self.request.version))
        if original_scores is None:
            raise RefusedError("a rehearsal before the model in use was scored")
        labels = original_scores.get("control_own_labels", np.zeros(0))
        counts = {int(label): int((labels == label).sum()) for label in np.unique(labels)}
        train = sorted(self.data.patients(Subset.TRAIN))
        folds = self.data.fold_scores.read("audit", train, [])
        if folds is None:
            raise CohortError(
                "no scores by audit fold models", where=self.data.file.name, remedy="train with folds.audit = 2 or more"
            )
        own_labels = _majority(self.data, train)
        fit_to_draw = [
            patient
            for patient, fold in zip(train, folds.fold, strict=True)
            if fold >= 0 and counts.get(own_labels[patient], 0) >= self.request.plan.controls_per_label
        ]

        return set(map(self.data.fold_scores.name_of, fit_to_draw))

    def retain(self, one: Rehearsal) -> StudyTensors | None:
        """Everybody who has not revoked, but the patients of a rehearsal."""
        own_patients = self._patients(
            self.files.drawn().get(one.number, []) if one.site == self.data.file.name else [], absent=True
        )
        return self.data.to_learn_without(own_patients or frozenset())

    def _patients(self, names: Sequence[str], *, absent: bool = False) -> frozenset[str] | None:
        """Identifiers of pseudonyms; None if one of them has revoked, unless `absent` ones are left out."""
        patient_of_name = self.data.by_name(Subset.TRAIN)
        if not absent and any(name not in patient_of_name for name in names):
            return None
        return frozenset(patient_of_name[name] for name in names if name in patient_of_name)


def _majority(data: SiteData, patients: Sequence[str]) -> dict[str, int]:
    """The commonest label of each patient, the higher one in a tie, as `majority_labels` has it."""
    patient_set = set(patients)
    labels: dict[str, list[int]] = {}
    for study in data.cohort.studies:
        if study.patient in patient_set:
            labels.setdefault(study.patient, []).append(study.label)

    return {patient: max(own, key=lambda label: (own.count(label), label)) for patient, own in labels.items()}
