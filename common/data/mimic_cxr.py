"""MIMIC-CXR (https://physionet.org/content/mimic-cxr/) and MIMIC-CXR-JPG folders with an oedema-severity split.

files/p10/p10000032/s50414267/<dicom_id>.dcm   or .jpg
files/p10/p10000032/s50414267.txt
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from common.data.manifest import Manifest
from common.data.table import Problems, read_table
from common.errors import CohortError, InputError, ManifestError
from common.records import Cohort, Split, Study, Subset

SEVERITIES = ("0", "1", "2", "3")
"""None, vascular congestion, interstitial, alveolar oedema (Horng et al. 2021, https://doi.org/10.1148/ryai.2021190228)."""

FOLDS: Mapping[str, Subset] = MappingProxyType(
    {
        "1": Subset.VALIDATION,
        "2": Subset.CALIBRATION,
        "3": Subset.AUDIT,
        "4": Subset.TRAIN,
        "5": Subset.TRAIN,
        "TEST": Subset.TEST,
    }
)
"""Which set each fold becomes unless told otherwise."""

_COLUMNS = ("subject_id", "study_id", "dicom_id", "fold")
_SEVERITY = ("edeme_severity", "edema_severity")  # the published file has the first
_HEADING = re.compile(r"^[ \t]*([A-Z][A-Z ()/,&-]*|(?i:findings|impression))[ \t]*:", re.MULTILINE)
_FINAL = re.compile(r"^[ \t]*FINAL REPORT[ \t]*$", re.MULTILINE)


def read_mimic_cxr(
    root: Path, split_csv: Path, *, reports: Path | None = None, folds: Mapping[str, Subset] = FOLDS
) -> Manifest:
    """Read the images and reports that a split names, with the severity of oedema (0 to 3) as label.

    Args:
        root: the folder that holds `files`.
        split_csv: columns `subject_id, study_id, dicom_id, edeme_severity` (or `edema_severity`) and `fold`.
        reports: the folder that holds the `files` of the reports, where it is not `root` (MIMIC-CXR-JPG).
        folds: the set each value of `fold` becomes.

    Raises:
        ManifestError: a column, image or report is missing, a value cannot be used, or a row is there twice.
        CohortError: a patient is in two sets.
    """
    table = read_table(split_csv, _COLUMNS)
    severity = next((name for name in _SEVERITY if name in table.columns), None)
    if severity is None:
        raise ManifestError(
            "missing column edema_severity", where=table.place(1), remedy=f"name it {' or '.join(_SEVERITY)}"
        )
    problems = Problems()
    subset_of: dict[str, Subset] = {}
    first_line: dict[tuple[str, str], int] = {}
    texts: dict[Path, str] = {}
    studies = []
    for line, row in table:
        try:
            _check_unique(first_line, line, row)
            studies.append(_study(root, reports or root, row, row[severity], texts))
            _assign(row, folds, subset_of)
        except InputError as err:
            problems.add(type(err)(err.problem, where=table.place(line), remedy=err.remedy))
    problems.raise_any()
    return Manifest(Cohort(tuple(studies), SEVERITIES), Split(subset_of), split_csv, table.lines)


def report_text(text: str) -> str:
    """The FINDINGS and IMPRESSION sections of a report, otherwise the whole final report; white space collapsed."""
    headings = list(_HEADING.finditer(text))
    ends = [*(heading.start() for heading in headings), len(text)][1:]
    sections = [
        text[heading.end() : end]
        for heading, end in zip(headings, ends, strict=True)
        if "FINDING" in heading[1].upper() or "IMPRESSION" in heading[1].upper()
    ]
    taken = " ".join(" ".join(sections).split())
    return taken or " ".join(_FINAL.split(text)[-1].split())


def _study(root: Path, reports: Path, row: Mapping[str, str], severity: str, texts: dict[Path, str]) -> Study:
    subject, study, dicom = row["subject_id"], row["study_id"], row["dicom_id"]
    if not (subject.isdecimal() and study.isdecimal()):
        raise ManifestError("subject_id and study_id must be numbers", remedy="use the ids of MIMIC-CXR")
    if not re.fullmatch(r"[0-9A-Za-z-]+", dicom):
        raise ManifestError("dicom_id is not an id of MIMIC-CXR", remedy="give the image's name without its suffix")
    label = severity.removesuffix(".0")
    if label not in SEVERITIES:
        raise ManifestError("unknown severity of oedema", remedy=f"use one of {', '.join(SEVERITIES)}")
    folder = Path("files", f"p{subject[:2]}", f"p{subject}")
    candidates = [root / folder / f"s{study}" / f"{dicom}{suffix}" for suffix in (".dcm", ".jpg")]
    image = next((path for path in candidates if path.is_file()), None)
    if image is None:
        raise ManifestError("missing image file", remedy="neither a .dcm nor a .jpg is in the study's folder")
    source = reports / folder / f"s{study}.txt"
    if source not in texts:
        texts[source] = _read_report(source)
    return Study(subject, study, image, texts[source], SEVERITIES.index(label), view=row.get("view", ""))


def _read_report(path: Path) -> str:
    try:
        report = report_text(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ManifestError(
            "missing report", remedy="unpack the reports beside the images, or say where they are"
        ) from None
    except UnicodeDecodeError:
        raise ManifestError("the report is not UTF-8 text", remedy="unpack the reports again") from None
    if not report:
        raise ManifestError("empty report", remedy="remove the row")
    return report


def _check_unique(first_line: dict[tuple[str, str], int], line: int, row: Mapping[str, str]) -> None:
    earlier = first_line.setdefault((row["study_id"], row["dicom_id"]), line)
    if earlier != line:
        raise ManifestError(f"the same study and image as row {earlier}", remedy="remove one of the rows")


def _assign(row: Mapping[str, str], folds: Mapping[str, Subset], subset_of: dict[str, Subset]) -> None:
    subset = folds.get(row["fold"].upper())
    if subset is None:
        raise ManifestError("unknown fold", remedy=f"use one of {', '.join(folds)}")
    if subset_of.setdefault(row["subject_id"], subset) is not subset:
        raise CohortError(
            "a patient of this row is in another set above", remedy="put all rows of a patient into one fold"
        )
