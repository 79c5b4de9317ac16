"""Manifests: a CSV with a row per image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import CohortError, ManifestError
from common.learning.data.tables.table import Problems, Table, read_table
from common.learning.records import Cohort, Split, Study, Subset

COLUMNS = ("patient_id", "study_id", "image", "report", "label")
"""Columns every manifest has; `site`, `view` and `split` may be added, others are ignored."""

_IDENTIFIERS = ("patient_id", "study_id")

SUBSET_NAMES: Mapping[str, Subset] = {
    **{subset.value: subset for subset in Subset},
    "calibration": Subset.CALIBRATION,
    "audit": Subset.AUDIT,
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """A cohort as it was read, with its split when the file gives one.

    Attributes:
        cohort: studies in the order of the file.
        split: the set of each patient, or None without a `split` column.
        source: the file, for messages.
        lines: 1-based file line of each study.
    """

    cohort: Cohort
    split: Split | None
    source: Path
    lines: tuple[int, ...]

    def place(self, index: int) -> str:
        """How a message points at study `index` without naming anybody: file and row."""
        return f"{self.source} row {self.lines[index]}"


def read_manifest(path: Path, classes: Sequence[str] | None = None) -> Manifest:
    """Read a manifest; image paths are relative to its folder.

    Args:
        path: a CSV file with `COLUMNS`, optionally `site`, `view` and `split`.
        classes: names of the labels; None takes the distinct labels, sorted (as numbers when all are integers).

    Raises:
        ManifestError: a column or image is missing, a value is empty or unknown, or a row is there twice.
        CohortError: a patient is in two splits.
    """
    table = read_table(path, COLUMNS)
    names = tuple(classes) if classes is not None else sorted_labels(row["label"] for row in table.rows)
    has_split = any(row.get("split") for row in table.rows)
    problems = Problems()
    first_line: dict[tuple[str, Path], int] = {}
    subset_of: dict[str, Subset] = {}
    studies = []

    for line, values in table:
        row = {**values, **{name: problems.identifier(values[name], name, table.place(line)) for name in _IDENTIFIERS}}
        image = path.parent / row["image"]
        for problem, remedy in _wrong(row, image, names):
            problems.add(ManifestError(problem, where=table.place(line), remedy=remedy))
        earlier = first_line.setdefault((row["study_id"], image), line)
        if earlier != line:
            problems.add(
                ManifestError(
                    f"the same study and image as row {earlier}",
                    where=table.place(line),
                    remedy="remove one of the rows",
                )
            )

        if has_split:
            _assign(table, line, row, subset_of, problems)
        # Reading goes on after a problem, so that one message lists all rows to correct.
        if row["label"] in names:
            studies.append(
                Study(
                    patient=row["patient_id"],
                    study=row["study_id"],
                    image=image,
                    report=row["report"],
                    label=names.index(row["label"]),
                    site=row.get("site", ""),
                    view=row.get("view", ""),
                )
            )

    problems.raise_any()

    return Manifest(Cohort(tuple(studies), names), Split(subset_of) if has_split else None, path, table.lines)


def sorted_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels that are not empty, in numeric order when all are integers, else in text order."""
    distinct = {label for label in labels if label}
    # As text, class 10 would come before class 2.
    if all(label.removeprefix("-").isdecimal() for label in distinct):
        return tuple(sorted(distinct, key=lambda label: (int(label), label)))
    return tuple(sorted(distinct))


def _wrong(row: Mapping[str, str], image: Path, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with one row by itself, each with its remedy."""
    for name in COLUMNS:
        if not row[name]:
            yield f"empty {name}", "give the study's report, or remove the row" if name == "report" else "fill it in"

    if row["label"] not in names:
        yield "unknown label", f"use one of {', '.join(names)}"
    if not image.is_file():
        yield "missing image file", "image paths are relative to the manifest's folder"


def _assign(table: Table, line: int, row: Mapping[str, str], subset_of: dict[str, Subset], problems: Problems) -> None:
    subset = SUBSET_NAMES.get(row["split"].lower())
    if subset is None:
        names = "train, validation, calibration, audit or test"
        problems.add(ManifestError("unknown split", where=table.place(line), remedy=f"use {names}"))
    elif subset_of.setdefault(row["patient_id"], subset) is not subset:
        problems.add(
            CohortError(
                "a patient of this row is in another split above",
                where=table.place(line),
                remedy="put all rows of a patient into one split",
            )
        )
