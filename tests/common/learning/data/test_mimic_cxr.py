import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from common.errors import CohortError, InputError, ManifestError
from common.learning.data.imaging.images import read_image
from common.learning.data.tables.mimic_cxr import read_mimic_cxr
from common.learning.data.tables.patient_list import read_patient_list
from common.learning.records import Subset

COLUMNS = ("subject_id", "study_id", "dicom_id", "edeme_severity", "fold")
REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___-year-old woman with cough.

 FINDINGS:

 There is mild pulmonary
 oedema: worse on the right.

 IMPRESSION:

 Mild oedema.
"""
FIRST = ("10000032", "50414267", "02aa804e-bde0afdd", "1", "4")
SECOND = ("10000033", "50414268", "174413ec-4ec4c1f7", "3", "TEST")


def add(root: Path, row: tuple[str, ...], suffix: str = ".dcm", report: str | None = REPORT) -> None:
    subject, study, image, *_ = row
    folder = root / "files" / f"p{subject[:2]}" / f"p{subject}"
    (folder / f"s{study}").mkdir(parents=True, exist_ok=True)
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    path = folder / f"s{study}" / f"{image}{suffix}"

    if suffix == ".jpg":
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    else:
        save_dicom(path, pixels)

    if report is not None:
        (folder / f"s{study}.txt").write_text(report, encoding="utf-8")


def save_dicom(path: Path, pixels: np.ndarray) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.set_pixel_data(pixels, "MONOCHROME2", 12)
    dataset.save_as(path, enforce_file_format=True)


def write(root: Path, *rows: tuple[str, ...], columns: tuple[str, ...] = COLUMNS) -> Path:
    path = root / "split.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


@pytest.mark.parametrize("suffix", [".dcm", ".jpg"])
def test_images_and_reports_are_found_in_the_folders(tmp_path: Path, suffix: str) -> None:
    add(tmp_path, FIRST, suffix)
    add(tmp_path, SECOND, suffix)
    manifest = read_mimic_cxr(tmp_path, write(tmp_path, FIRST, SECOND))
    first, second = manifest.cohort.studies
    assert manifest.cohort.classes == ("0", "1", "2", "3")
    assert (first.patient, first.study, first.label) == ("10000032", "50414267", 1)
    assert (second.patient, second.label) == ("10000033", 3)
    assert first.report == "There is mild pulmonary oedema: worse on the right. Mild oedema."
    assert read_image(first.image).shape == (3, 4)
    assert manifest.split is not None
    assert dict(manifest.split.subset_of) == {"10000032": Subset.TRAIN, "10000033": Subset.TEST}
    assert manifest.place(1) == f"{tmp_path / 'split.csv'} row 3"


def test_the_column_may_be_spelt_correctly_and_severity_may_be_a_float(tmp_path: Path) -> None:
    add(tmp_path, FIRST)
    path = write(tmp_path, (*FIRST[:3], "2.0", "4"), columns=(*COLUMNS[:3], "edema_severity", "fold"))
    assert read_mimic_cxr(tmp_path, path).cohort.studies[0].label == 2


@pytest.mark.parametrize("number", ["1", "1.0", "1.00", "1,0"])
def test_folds_and_severities_may_be_written_as_floats(tmp_path: Path, number: str) -> None:
    add(tmp_path, FIRST)
    manifest = read_mimic_cxr(tmp_path, write(tmp_path, (*FIRST[:3], number, number)))
    assert manifest.cohort.studies[0].label == 1
    assert manifest.split is not None
    assert manifest.split.subset_of[FIRST[0]] is Subset.VALIDATION


@pytest.mark.parametrize("number", ["1.5", "1.", ".0", "1.0.0", "-1.0", "4.0"])
def test_no_other_float_is_a_severity(tmp_path: Path, number: str) -> None:
    add(tmp_path, FIRST)
    with pytest.raises(ManifestError, match="unknown severity"):
        read_mimic_cxr(tmp_path, write(tmp_path, (*FIRST[:3], number, "1")))


def test_dicom_and_jpg_do_not_mix_in_one_cohort(tmp_path: Path) -> None:
    add(tmp_path, FIRST, ".dcm")
    add(tmp_path, SECOND, ".jpg")
    with pytest.raises(ManifestError, match="1 rows have a DICOM file and 1 only a JPG, which is histogram-equalised"):
        read_mimic_cxr(tmp_path, write(tmp_path, FIRST, SECOND))


@pytest.mark.parametrize("common", [".dcm", ".jpg"])
def test_where_some_rows_have_both_kinds_the_one_that_all_have_is_read(tmp_path: Path, common: str) -> None:
    other = {".dcm": ".jpg", ".jpg": ".dcm"}[common]
    for row, suffix in ((FIRST, common), (SECOND, common), (SECOND, other)):
        add(tmp_path, row, suffix)
    studies = read_mimic_cxr(tmp_path, write(tmp_path, FIRST, SECOND)).cohort.studies
    assert {study.image.suffix for study in studies} == {common}


def test_folds_become_the_five_sets_by_default_and_as_told(tmp_path: Path) -> None:
    rows = [(f"1000000{i}", f"5000000{i}", "a", "0", fold) for i, fold in enumerate(["1", "2", "3", "4", "5", "Test"])]
    for row in rows:
        add(tmp_path, row)
    path = write(tmp_path, *rows)
    split = read_mimic_cxr(tmp_path, path).split
    assert split is not None
    assert list(split.subset_of.values()) == [
        Subset.VALIDATION,
        Subset.CALIBRATION,
        Subset.AUDIT,
        Subset.TRAIN,
        Subset.TRAIN,
        Subset.TEST,
    ]
    folds = dict.fromkeys("2345", Subset.TRAIN) | {"1": Subset.VALIDATION, "TEST": Subset.TEST}
    told = read_mimic_cxr(tmp_path, path, folds=folds).split
    assert told is not None
    assert len(told.patients(Subset.TRAIN)) == 4


def test_reports_may_lie_in_another_folder(tmp_path: Path) -> None:
    add(tmp_path / "jpg", FIRST, ".jpg", report=None)
    add(tmp_path / "reports", FIRST)
    manifest = read_mimic_cxr(tmp_path / "jpg", write(tmp_path, FIRST), reports=tmp_path / "reports")
    assert manifest.cohort.studies[0].report.startswith("There is")


def test_images_of_one_study_share_its_report(tmp_path: Path) -> None:
    lateral = (*FIRST[:2], "lateral", *FIRST[3:])
    add(tmp_path, FIRST)
    add(tmp_path, lateral)
    studies = read_mimic_cxr(tmp_path, write(tmp_path, FIRST, lateral)).cohort.studies
    assert studies[0].report == studies[1].report
    assert studies[0].image != studies[1].image


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (("10000039", *FIRST[1:]), "missing image file"),
        ((*FIRST[:2], "unknown", *FIRST[3:]), "missing image file"),
        ((*FIRST[:2], "../x", *FIRST[3:]), "dicom_id is not an id"),
        (("p10000032", *FIRST[1:]), "must be numbers"),
        (("١٠٠٠٠٠٣٢", *FIRST[1:]), "must be numbers"),
        (("1.0E+07", *FIRST[1:]), "scientific notation"),
        ((FIRST[0], "5,0414E+07", *FIRST[2:]), "scientific notation"),
        ((*FIRST[:3], "4", "4"), "unknown severity"),
        ((*FIRST[:3], "", "4"), "unknown severity"),
        ((*FIRST[:4], "6"), "unknown fold"),
    ],
)
def test_a_bad_row_is_named_by_its_number_and_tells_nothing_of_the_patient(
    tmp_path: Path, row: tuple[str, ...], problem: str
) -> None:
    add(tmp_path, FIRST)
    add(tmp_path, SECOND)
    path = write(tmp_path, SECOND, row)
    with pytest.raises(ManifestError, match=problem) as caught:
        read_mimic_cxr(tmp_path, path)
    message = str(caught.value)
    assert message.startswith(f"{path} row 3: ")
    assert caught.value.remedy
    assert not [secret for secret in (*FIRST[:3], *SECOND[:3], "10000039", "oedema: worse") if secret in message]


@pytest.mark.parametrize(
    ("report", "problem"),
    [(None, "missing report"), (b"   \n", "empty report"), (b"FINDINGS: \xe4dema", "not UTF-8")],
)
def test_a_report_that_cannot_be_used_is_named_by_its_row(tmp_path: Path, report: bytes | None, problem: str) -> None:
    add(tmp_path, FIRST, report=None)
    if report is not None:
        (tmp_path / "files/p10/p10000032/s50414267.txt").write_bytes(report)
    with pytest.raises(ManifestError, match=rf"row 2: .*{problem}") as caught:
        read_mimic_cxr(tmp_path, write(tmp_path, FIRST))
    assert "10000032" not in str(caught.value)


def test_a_patient_in_two_sets_is_refused(tmp_path: Path) -> None:
    other = (FIRST[0], "50000000", "b", "0", "TEST")
    add(tmp_path, FIRST)
    add(tmp_path, other)
    with pytest.raises(CohortError, match=r"row 3: .* another set"):
        read_mimic_cxr(tmp_path, write(tmp_path, FIRST, other))


def test_a_row_that_is_there_twice_is_refused_and_all_are_counted(tmp_path: Path) -> None:
    add(tmp_path, FIRST)
    with pytest.raises(InputError, match=r"row 3: the same study and image as row 2 and 1 more row \("):
        read_mimic_cxr(tmp_path, write(tmp_path, FIRST, FIRST, FIRST))


def test_a_split_without_severity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="missing column edema_severity"):
        read_mimic_cxr(tmp_path, write(tmp_path, FIRST, columns=(*COLUMNS[:3], "severity", "fold")))


def test_a_forget_list_names_its_subjects(tmp_path: Path) -> None:
    path = tmp_path / "forget.csv"
    path.write_text("subject_id,study_id\n10000032,50414267\n10000032,50414269\n10000033,1\n", encoding="utf-8")
    assert read_patient_list(path) == ("10000032", "10000033")
