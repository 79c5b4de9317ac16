"""Tables and lists as spreadsheets write them: separators, encodings, compression, and all bad rows at once."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from PIL import Image

from common.errors import InputError, ManifestError
from common.learning.data.tables.manifest import read_manifest
from common.learning.data.tables.patient_list import parse_patient_list, read_patient_list
from common.learning.data.tables.table import read_table

CASES = Path(__file__).parent / "cases"
COLUMNS = ("patient_id", "study_id", "note")


def table(folder: Path, content: bytes) -> list[dict[str, str]]:
    path = folder / "studies.csv"
    path.write_bytes(content)
    return [dict(row) for row in read_table(path, COLUMNS).rows]


@pytest.mark.parametrize(
    "text",
    [
        "patient_id;study_id;note\n1;s;x, y\n",
        "patient_id\tstudy_id\tnote\n1\ts\tx, y\n",
        "patient_id|study_id|note\n1|s|x, y\n",
        "sep=;\npatient_id;study_id;note\n1;s;x, y\n",
        '"sep=;"\npatient_id;study_id;note\n1;s;x, y\n',
        "SEP=\t\r\npatient_id\tstudy_id\tnote\r\n1\ts\tx, y\r\n",
        'patient_id,study_id,note\n1,s,"x, y"\n',
        'patient_id,study_id,note\r1,s,"x, y"\r',
        "note;;patient_id;study_id;;\nx, y;;1;s;;\n",
        "\n\npatient_id;study_id;note\n\n1;s;x, y\n;;\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_a_table_is_read_whatever_separates_its_columns(tmp_path: Path, text: str, encoding: str) -> None:
    for content in (text.encode(encoding), gzip.compress(text.encode(encoding), mtime=0)):
        (row,) = table(tmp_path, content)
        assert {name: row[name] for name in COLUMNS} == {"patient_id": "1", "study_id": "s", "note": "x, y"}


@pytest.mark.parametrize(
    "text",
    [
        "\u00d6dem links",
        "Stra\u00dfe, K\u00f6ln",
        "37 \u00b0C \u2013 \u201eklar\u201c",
        "Jos\u00e9 na\u00efve \u20ac 5",
    ],
)
def test_windows_1252_is_read_where_nothing_else_can_be_meant(tmp_path: Path, text: str) -> None:
    content = f"patient_id;study_id;note\n1;s;{text}\n".encode("cp1252")
    assert table(tmp_path, content)[0]["note"] == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("\u041e\u0442\u0435\u043a \u0441\u043b\u0435\u0432\u0430", "cp1251"),
        ("\u00c4rzte \u00fcber", "mac-roman"),
        ("\u00c4rzte \u00fcber", "cp850"),
        ("Za\u017c\u00f3\u0142\u0107 g\u0119\u015bl\u0105", "cp1250"),
        ("\u03a0\u03bd\u03b5\u03cd\u03bc\u03bf\u03bd\u03b1\u03c2", "iso8859-7"),
        ("\u80ba\u6c34\u816b", "shift-jis"),
    ],
)
def test_another_encoding_is_named_as_far_as_it_can_be_told_and_refused(
    tmp_path: Path, text: str, encoding: str
) -> None:
    with pytest.raises(ManifestError, match=r"row 2: not UTF-8 text.*\(save it as CSV UTF-8\)"):
        table(tmp_path, f"patient_id;study_id;note\n1;s;{text}\n".encode(encoding))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("patient_id;study_id;note\n1;s;\u00e4\n".encode("utf-16-le"), "UTF-16 text without a byte-order mark"),
        (b"PK\x03\x04rest", "an Excel workbook or a ZIP file, not CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1rest", "an old Excel workbook"),
        (b"patient_id\x00;\x00\x01\x02", "not text"),
        (gzip.compress(b"patient_id;study_id;note\n1;s;x\n", mtime=0)[:-4], "a damaged gzip file"),
        (b"patient_id;name\n1;x\n", "missing columns study_id, note .*separated by semicolons"),
        (b"patient_id:study_id:note\n1:s:x\n", "missing columns .*':' is between them: save it with commas"),
        (b"name\nx\n", "missing columns .*it has one column"),
        (b"patient_id;study_id;note\n1;s;x;y\n", "row 2: 4 values for 3 columns .*separated by semicolons"),
        (b"sep=,\npatient_id;study_id;note\n1;s;x\n", "missing columns"),
    ],
)
def test_what_cannot_be_read_without_guessing_is_refused_in_a_line_that_names_it(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    with pytest.raises(ManifestError, match=problem) as caught:
        table(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_unpacking_is_bounded() -> None:
    with pytest.raises(ManifestError, match="more than 1000 bytes when unpacked"):
        parse_patient_list(gzip.compress(b"patient_id\n" + b"1\n" * 1000, mtime=0), "list", most=1000)


def test_all_bad_rows_are_listed_up_to_twenty_and_then_counted(tmp_path: Path) -> None:
    rows = "".join(f"{'1.2346E+11' if n % 2 else f'secret-{n}'},s{n},i.png,r,x\n" for n in range(60))
    path = tmp_path / "studies.csv"
    path.write_text(f"patient_id,study_id,image,report,label\n{rows}")
    Image.new("L", (4, 4)).save(tmp_path / "i.png")
    with pytest.raises(ManifestError, match=r"row 3: patient_id: .*scientific.* and 29 more rows") as caught:
        read_manifest(path)
    assert [int(other.where.rpartition(" ")[2]) for other in caught.value.others] == [*range(5, 43, 2)]
    assert caught.value.unlisted == 10

    for line in map(str, (caught.value, *caught.value.others)):
        assert "secret" not in line
        assert "1.2346" not in line
        assert re.search(r"row \d+: patient_id: ", line)


def test_the_semicolons_of_a_german_spreadsheet_are_read() -> None:
    path = CASES / "22-csv-of-a-german-excel" / "semicolon.csv"
    (row,) = read_table(path, ("patient_id", "study_id", "image", "report", "label")).rows
    assert row["patient_id"] == "1"


def test_identifiers_in_scientific_notation_are_refused_with_all_their_rows() -> None:
    with pytest.raises(ManifestError, match=r"row 2: patient_id: an identifier in scientific notation") as caught:
        read_manifest(CASES / "23-ids-in-scientific-notation" / "cohort.csv")
    assert [other.where.rpartition(" ")[2] for other in caught.value.others] == ["3"]


@pytest.mark.parametrize(
    ("name", "identifiers"), [("apostrophe.csv", ("000009",)), ("quoted.txt", ("000006",)), ("list.csv", ("3", "4"))]
)
def test_the_lists_of_a_spreadsheet_are_read(name: str, identifiers: tuple[str, ...]) -> None:
    assert read_patient_list(CASES / "01-opt-out-list-ids-changed-by-excel" / name) == identifiers


@pytest.mark.parametrize(
    "text",
    [
        "PatientID\nb\na\n", "Patienten-ID;Grund\nb;x\na;y\n", "MRN\tname\nb\tx\na\ty\n", "b\na\n", '"b"\n"a"\n',
        "b;\na;\n", ";b\n;a\n", "sep=;\nb;\na;\n", "patient_id\nb\na\npatient_id\nb\n", '="b"\n="a"\n', "'b'\n'a'\n",
        "id\nb\na\n", "no,Patient ID,MRN\n1,b,x\n2,a,y\n", "patient_id,\nb,\na,\n", "patient_id\nb;\na;\n",
    ],
)  # fmt: skip
def test_a_heading_is_no_patient_and_a_list_is_read_in_any_form(text: str) -> None:
    assert parse_patient_list(text.encode(), "list") == ("b", "a")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("b;a\n", "row 1: several values in a list of patients, separated by semicolons"),
        ("x\nb\ta\n", "row 2: several values .* tabs"),
        ("name;born\nMuster;1970\n", "row 1: several values .* semicolons"),
        ("id,name\n1,Muster\n", "row 1: several values .* commas"),
        ("patient_id\n1;2\n", "row 2: several values .* semicolons"),
        ("MRN;Fallnummer;PID\n1;2;3\n", "row 1: 2 columns that may hold the patients"),
        ("Opt-out list\npatient_id\nb\n", "row 2: a heading below other lines"),
        ('"b\na\n', "not valid CSV"),
        ('b\n"a\nc"\n', "row 2: identifier: an identifier with a control character"),
        ("patient_id\n \u200b \nb\n\n;\n", "row 2: empty patient_id"),
    ],
)
def test_a_list_that_cannot_be_read_without_guessing_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        parse_patient_list(text.encode(), "list")
    assert "Muster" not in str(caught.value)


def test_a_heading_that_is_a_patient_of_the_cohort_is_not_dropped() -> None:
    with pytest.raises(ManifestError, match="looks like, an identifier of the cohort"):
        parse_patient_list(b"MRN\nb\n", "list", lambda text: text == "MRN")
