"""MIMIC-CXR (https://physionet.org/content/mimic-cxr/) and MIMIC-CXR-JPG folders with an oedema-severity split.

files/p10/p10000032/s50414267/<dicom_id>.dcm   or .jpg
files/p10/p10000032/s50414267.txt

The JPGs are histogram-equalised (Johnson et al. 2019, https://arxiv.org/abs/1901.07042) and so look unlike the DICOM
files of the same images: a cohort is of one kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from common.errors import CohortError, InputError, ManifestError
from common.learning.data.identifiers.identifiers import is_scientific
from common.learning.data.tables.manifest import Manifest
from common.learning.data.tables.mimic_reports import report_text
from common.learning.data.tables.table import Problems, read_table
from common.learning.records import Cohort, Split, Study, Subset

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
# A whole number as pandas and spreadsheets write it when a column has gaps.
_WHOLE = re.compile(r"(\d+)[.,]0+")
_KINDS = (".dcm", ".jpg")


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
        ManifestError: a column, image or report is missing, a value cannot be used, a row is there twice, or some rows
            have only a DICOM file and others only a JPG.
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

    return Manifest(Cohort(_of_one_kind(studies, split_csv), SEVERITIES), Split(subset_of), split_csv, table.lines)


def _of_one_kind(studies: list[Study], split_csv: Path) -> tuple[Study, ...]:
    """The studies with DICOM files if all have one, otherwise with JPGs."""
    for kind in _KINDS:
        images = [study.image.with_suffix(kind) for study in studies]
        if all(image.is_file() for image in images):
            return tuple(replace(study, image=image) for study, image in zip(studies, images, strict=True))

    dicom = sum(study.image.suffix == ".dcm" for study in studies)
    raise ManifestError(
        f"{dicom} rows have a DICOM file and {len(studies) - dicom} only a JPG, which is histogram-equalised",
        where=str(split_csv),
        remedy="use MIMIC-CXR or MIMIC-CXR-JPG for all rows",
    )


def _study(root: Path, reports: Path, row: Mapping[str, str], severity: str, texts: dict[Path, str]) -> Study:
    subject = row["subject_id"]
    study = row["study_id"]
    dicom = row["dicom_id"]
    if is_scientific(subject) or is_scientific(study):
        raise ManifestError(
            "an id in scientific notation, which has lost its digits", remedy="export it again with the column as text"
        )
    # These three become a path below.
    if not (subject.isdecimal() and study.isdecimal() and (subject + study).isascii()):
        raise ManifestError("subject_id and study_id must be numbers", remedy="use the ids of MIMIC-CXR")
    if not re.fullmatch(r"[0-9A-Za-z-]+", dicom):
        raise ManifestError("dicom_id is not an id of MIMIC-CXR", remedy="give the image's name without its suffix")
    label = _whole(severity)
    if label not in SEVERITIES:
        raise ManifestError("unknown severity of oedema", remedy=f"use one of {', '.join(SEVERITIES)}")
    folder = Path("files", f"p{subject[:2]}", f"p{subject}")
    candidates = [root / folder / f"s{study}" / f"{dicom}{suffix}" for suffix in _KINDS]
    image = next((path for path in candidates if path.is_file()), None)
    if image is None:
        raise ManifestError("missing image file", remedy="neither a .dcm nor a .jpg is in the study's folder")
    source = reports / folder / f"s{study}.txt"
    # Studies have several images, each with a row; their report is read once.
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


def _whole(text: str) -> str:
    number = _WHOLE.fullmatch(text)
    return number[1] if number else text


def _check_unique(first_line: dict[tuple[str, str], int], line: int, row: Mapping[str, str]) -> None:
    earlier = first_line.setdefault((row["study_id"], row["dicom_id"]), line)
    if earlier != line:
        raise ManifestError(f"the same study and image as row {earlier}", remedy="remove one of the rows")


def _assign(row: Mapping[str, str], folds: Mapping[str, Subset], subset_of: dict[str, Subset]) -> None:
    subset = folds.get(_whole(row["fold"].upper()))
    if subset is None:
        raise ManifestError("unknown fold", remedy=f"use one of {', '.join(folds)}")
    if subset_of.setdefault(row["subject_id"], subset) is not subset:
        raise CohortError(
            "a patient of this row is in another set above", remedy="put all rows of a patient into one fold"
        )
