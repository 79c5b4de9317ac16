"""Who is in which fold: by patient, by label, and the same at every site that asks again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from common.learning.folds.assignment import assign_folds, same_images
from common.learning.records import Cohort, Study


def cohort(patients: int, site: str = "north", classes: int = 3) -> Cohort:
    studies = [
        Study(f"p{n:03d}", f"s{n}-{k}", Path("x.png"), "", n % classes, site=site)
        for n in range(patients)
        for k in (0, 1)
    ]
    return Cohort(tuple(studies), ("a", "b", "c"))


@pytest.mark.parametrize("folds", [2, 3, 4, 16])
@pytest.mark.parametrize("patients", [1, 3, 17, 60])
def test_folds_differ_by_one_patient_at_most_in_all_and_in_each_label(patients: int, folds: int) -> None:
    given = assign_folds(cohort(patients), folds, lineage="one", family="targets")
    assert given.keys() == {f"p{n:03d}" for n in range(patients)}
    sizes = Counter(given.values())
    all_sizes = [sizes[fold] for fold in range(folds)]
    assert max(all_sizes) - min(all_sizes) <= 1
    for label in range(3):
        of_label = Counter(fold for patient, fold in given.items() if int(patient[1:]) % 3 == label)
        of_each = [of_label[fold] for fold in range(folds)]
        assert max(of_each) - min(of_each) <= 2


def test_lineages_families_and_hospitals_have_assignments_of_their_own() -> None:
    first = assign_folds(cohort(60), 4, lineage="one", family="targets")
    assert first == assign_folds(cohort(60), 4, lineage="one", family="targets")
    others = [
        assign_folds(cohort(60), 4, lineage="two", family="targets"),
        assign_folds(cohort(60), 4, lineage="one", family="audit"),
        assign_folds(cohort(60, site="south"), 4, lineage="one", family="targets"),
    ]
    for other in others:
        # Independent assignments agree on a quarter of the patients.
        assert sum(first[patient] == other[patient] for patient in first) < 30


def test_patients_with_an_image_in_common_share_a_fold() -> None:
    groups = same_images(
        {"p000": frozenset("ab"), "p001": frozenset("bc"), "p002": frozenset("c"), "p003": frozenset("d")}
    )
    assert set(groups) == {"p000", "p001", "p002"}
    assert len(set(groups.values())) == 1
    given = assign_folds(cohort(40), 4, lineage="one", family="targets", groups=groups)
    assert given["p000"] == given["p001"] == given["p002"]


def test_without_patients_nobody_is_dealt() -> None:
    assert assign_folds(Cohort((), ("a",)), 4, lineage="one", family="targets") == {}
