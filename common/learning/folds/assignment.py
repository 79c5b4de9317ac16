"""Deal a hospital's training patients to folds: by patient, stratified by label."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import numpy as np

from common.learning.data.splits import Groups, deal, strata
from common.learning.device import derive_seed
from common.learning.records import Cohort


def assign_folds(
    cohort: Cohort, folds: int, *, lineage: str, family: str, groups: Groups | None = None
) -> dict[str, int]:
    """The fold of each patient of `cohort`, from 0; folds differ by one unit in size, and in each label likewise.

    Patients of one group (duplicates, or one person under two ids) share a fold, so that no fold model learns a
    patient of its own fold from another's studies. The families' assignments are independent of each other.
    """
    by_label = strata(cohort, groups)
    units = sum(len(stratum) for stratum in by_label)
    if not units:
        return {}
    sizes = [units // folds + (number < units % folds) for number in range(folds)]
    seed = derive_seed("folds", lineage, family, *cohort.sites)
    rng = np.random.default_rng(seed)
    # Of several folds, which ones are the larger is drawn as well.
    dealt = deal(by_label, [sizes[at] for at in rng.permutation(folds)], rng)

    return {patient: number for number, hand in enumerate(dealt) for patient in chain(*hand)}


def same_images(images: Mapping[str, frozenset[str]]) -> Groups:
    """Groups of patients who share an image, from the digests of each patient's images."""
    owner: dict[str, str] = {}
    parent: dict[str, str] = {}

    # A forest in which the smaller id is always the root: the groups do not depend on the order of the rows.
    def root(patient: str) -> str:
        while parent.get(patient, patient) != patient:
            patient = parent[patient]
        return patient

    for patient in sorted(images):
        for digest in sorted(images[patient]):
            other = owner.setdefault(digest, patient)
            first, second = sorted((root(patient), root(other)))
            if first != second:
                parent[second] = first

    return {patient: root(patient) for patient in images if patient in parent or patient in parent.values()}
