"""Basic values: studies, cohorts, and the five sets of a site."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Subset(StrEnum):
    """The five sets of a site, disjoint by patient.

    Only TRAIN changes weights. VALIDATION sets the length of training. CALIBRATION stops unlearning and selects the
    retention round. AUDIT is used once per campaign, for the decision. TEST is reported and never used for selection.
    """

    TRAIN = "train"
    VALIDATION = "validation"
    CALIBRATION = "never_seen_calibration"
    AUDIT = "never_seen_audit"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Study:
    """One radiograph with its report and label. The `repr` omits everything that identifies a patient."""

    patient: str = field(repr=False)
    study: str = field(repr=False)
    image: Path = field(repr=False)
    report: str = field(repr=False)
    label: int
    site: str = ""
    view: str = ""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Studies with one list of classes; `label` of a study is an index into `classes`."""

    studies: tuple[Study, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.studies)

    @property
    def patients(self) -> tuple[str, ...]:
        """Patient ids in order of first appearance."""
        return tuple(dict.fromkeys(s.patient for s in self.studies))

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites, sorted."""
        return tuple(sorted({s.site for s in self.studies}))

    def where(self, keep: Callable[[Study], bool]) -> Cohort:
        """The studies for which `keep` holds, classes unchanged."""
        return Cohort(tuple(s for s in self.studies if keep(s)), self.classes)

    def of(self, patients: Collection[str]) -> Cohort:
        """The studies of `patients`."""
        members = frozenset(patients)
        return self.where(lambda s: s.patient in members)


@dataclass(frozen=True, slots=True)
class Split:
    """The set of each patient of one site."""

    subset_of: Mapping[str, Subset] = field(repr=False)

    def patients(self, subset: Subset) -> tuple[str, ...]:
        """Patients of one set, sorted."""
        return tuple(sorted(p for p, s in self.subset_of.items() if s is subset))
