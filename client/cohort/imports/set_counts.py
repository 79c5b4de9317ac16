"""The number of studies of each label in each set of a site."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from common.learning.records import Cohort, Subset


def count_sets(cohort: Cohort, subsets: Mapping[str, Subset], revoked: Collection[str]) -> dict[str, dict[str, int]]:
    """Studies by set and label; patients who have revoked have a row of their own."""
    counts = {row: dict.fromkeys(cohort.classes, 0) for row in [*map(str, Subset), "revoked"]}
    for study in cohort.studies:
        row = "revoked" if study.patient in revoked else str(subsets[study.patient])
        counts[row][cohort.classes[study.label]] += 1

    return counts
