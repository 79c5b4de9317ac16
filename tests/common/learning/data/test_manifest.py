import csv
from pathlib import Path

import pytest
from PIL import Image

from common.errors import CohortError, InputError, ManifestError
from common.learning.data.tables.manifest import Manifest, read_manifest
from common.learning.data.tables.patient_list import read_patient_list
from common.learning.records import Subset

COLUMNS = ("patient_id", "study_id", "image", "report", "label", "split")
SECRETS = ("Muster", "s-4711", "muster.png", "pneumothorax")
GOOD = ("Muster", "s-4711", "muster.png", "Small pneumothorax.", "0", "train")
OTHER = ("p2", "s2", "b.png", "Lungs are clear.", "1", "test")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("muster.png", "b.png", "c.png"):
        Image.new("L", (4, 4)).save(tmp_path / name)
    return tmp_path


def write(folder: Path, *rows: tuple[str, ...], columns: tuple[str, ...] = COLUMNS) -> Path:
    path = folder / "studies.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def test_a_manifest_becomes_studies_and_a_split(folder: Path) -> None:
    manifest = read_manifest(write(folder, GOOD, OTHER))
    first, second = manifest.cohort.studies
    assert (first.patient, first.study, first.report, first.label) == ("Muster", "s-4711", "Small pneumothorax.", 0)
    assert first.image == folder / "muster.png"
    assert (second.label, second.site, second.view) == (1, "", "")
    assert manifest.split is not None
    assert dict(manifest.split.subset_of) == {"Muster": Subset.TRAIN, "p2": Subset.TEST}


def test_site_and_view_are_read_and_further_columns_ignored(folder: Path) -> None:
    columns = ("age", "view", "site", "label", "report", "image", "study_id", "patient_id")
    manifest = read_manifest(
        write(folder, ("54", "PA", "north", "other", "Clear.", "b.png", "s", "p"), columns=columns)
    )
    study = manifest.cohort.studies[0]
    assert (study.view, study.site, study.patient) == ("PA", "north", "p")
    assert manifest.split is None


def test_a_byte_order_mark_is_no_part_of_the_first_column(folder: Path) -> None:
    path = write(folder, GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_manifest(path).cohort) == 1


@pytest.mark.parametrize(
    ("labels", "classes"),
    [(("10", "9"), ("9", "10")), (("10", "b"), ("10", "b")), (("other", "covid19"), ("covid19", "other"))],
)
def test_classes_are_sorted_as_numbers_only_when_all_are(
    folder: Path, labels: tuple[str, str], classes: tuple[str, str]
) -> None:
    rows = [(*row[:4], label, "train") for row, label in zip((GOOD, OTHER), labels, strict=True)]
    assert read_manifest(write(folder, *rows)).cohort.classes == classes


def test_given_classes_keep_their_order(folder: Path) -> None:
    manifest = read_manifest(write(folder, GOOD, OTHER), classes=("1", "0", "2"))
    assert manifest.cohort.classes == ("1", "0", "2")
    assert [s.label for s in manifest.cohort.studies] == [1, 0]


def test_short_and_full_names_of_the_sets_are_read(folder: Path) -> None:
    names = ("train", "Validation", "calibration", "never_seen_calibration", "audit", "never_seen_audit", "test")
    rows = [(f"p{i}", f"s{i}", "b.png", "Clear.", "0", name) for i, name in enumerate(names)]
    split = read_manifest(write(folder, *rows)).split
    assert split is not None
    assert list(split.subset_of.values()) == [
        Subset.TRAIN,
        Subset.VALIDATION,
        Subset.CALIBRATION,
        Subset.CALIBRATION,
        Subset.AUDIT,
        Subset.AUDIT,
        Subset.TEST,
    ]


def test_a_row_is_named_by_the_line_it_begins_on(folder: Path) -> None:
    long = ("p1", "s1", "c.png", "First line.\nSecond line.", "0", "train")
    manifest = read_manifest(write(folder, long, OTHER))
    assert manifest.lines == (2, 4)
    assert manifest.place(1) == f"{folder / 'studies.csv'} row 4"


def changed(**values: str) -> tuple[str, ...]:
    values = {"study_id": "s-4711b"} | values
    return tuple(values.get(name, value) for name, value in zip(COLUMNS, GOOD, strict=True))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (changed(image="gone-muster.png"), "missing image file"),
        (changed(report="  "), "empty report"),
        (changed(patient_id=""), "empty patient_id"),
        (changed(label="pneumothorax"), "unknown label"),
        (changed(label=""), "empty label"),
        (changed(split="Muster"), "unknown split"),
        (changed(split=""), "unknown split"),
        (GOOD, "the same study and image as row 2"),
        (GOOD[:-1], "5 values for 6 columns"),
    ],
)
def test_a_bad_row_gets_one_line_with_file_row_and_remedy_and_nothing_of_the_patient(
    folder: Path, row: tuple[str, ...], problem: str
) -> None:
    path = write(folder, GOOD, row)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, classes=("0", "1"))
    message = str(caught.value)
    assert message.startswith(f"{path} row 3: {problem} (")
    assert "\n" not in message
    assert caught.value.remedy
    assert not [secret for secret in SECRETS if secret in message]


def test_a_patient_in_two_splits_is_refused(folder: Path) -> None:
    path = write(folder, GOOD, changed(image="c.png", split="test"))
    with pytest.raises(CohortError, match=r"row 3: .* in another split") as caught:
        read_manifest(path)
    assert not [secret for secret in SECRETS if secret in str(caught.value)]


def test_all_bad_rows_are_counted_and_the_first_is_shown(folder: Path) -> None:
    path = write(folder, GOOD, changed(report="", label="x"), OTHER, changed(image="no.png"), changed(patient_id=""))
    with pytest.raises(ManifestError, match=r"row 3: empty report and 2 more rows \("):
        read_manifest(path, classes=("0", "1"))


def test_missing_columns_are_named(folder: Path) -> None:
    path = write(folder, ("p", "s"), columns=("patient_id", "study_id"))
    with pytest.raises(ManifestError, match=r"row 1: missing columns image, report, label"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"patient_id,study_id,image,report,label\n", "no rows below the header"),
        (b"patient_id,study_id,image,report,label\np,s,b.png,\x81dema,0\n", "row 2: not UTF-8"),
        (b'patient_id,study_id,image,report,label\np,s,b.png,"open,0\n', "row 2: not valid CSV"),
        (b"patient_id,patient_id,study_id,image,report,label\np,p,s,b.png,r,0\n", "is there twice"),
    ],
)
def test_a_file_that_is_no_table_is_refused(folder: Path, content: bytes, problem: str) -> None:
    path = folder / "studies.csv"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=problem):
        read_manifest(path)


def test_a_missing_manifest_is_an_input_error_with_exit_code_two(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file") as caught:
        read_manifest(tmp_path / "no.csv")
    assert caught.value.exit_code == 2


def test_studies_show_no_patient_when_printed(folder: Path) -> None:
    shown = repr(read_manifest(write(folder, GOOD)))
    assert not [secret for secret in SECRETS if secret in shown]


@pytest.mark.parametrize(
    "content", ["patient_id,why\nb,x\na,y\nb,z\n", "subject_id\nb\na\n", "b\na\n\nb\n", "\ufeffb\r\na\r\n"]
)
def test_a_list_of_patients_keeps_its_order_and_names_each_once(tmp_path: Path, content: str) -> None:
    path = tmp_path / "forget.csv"
    path.write_text(content, encoding="utf-8")
    assert read_patient_list(path) == ("b", "a")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "names no patient"),
        ("name,born\nMuster,1970\n", "row 1: several values"),
        ("patient_id,why\nb,x\n,y\n", "row 3: empty patient_id"),
        ("patient_id\n", "no rows"),
    ],
)
def test_a_list_of_patients_that_cannot_be_read_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "forget.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=problem) as caught:
        read_patient_list(path)
    assert "Muster" not in str(caught.value)


def test_the_real_set_is_read_when_it_is_there(covid: Manifest) -> None:
    assert (len(covid.cohort), len(covid.cohort.patients)) == (287, 146)
    assert covid.cohort.classes == ("covid19", "other")
    assert covid.cohort.sites == ("eurorad", "journals", "radiopaedia")
