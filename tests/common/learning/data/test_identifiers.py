"""What an identifier is, how it is read from a cell, and what is refused."""

from __future__ import annotations

import pytest

from common.learning.data.identifiers.identifiers import IdentifierError, from_cell, is_heading, is_scientific, normal


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("MRN-1", "MRN-1"),
        ("\ufeff 000003\u00a0\r\n", "000003"),
        ("\u200bMRN-1\u200d\u2060", "MRN-1"),
        ("Mu\u0308ller-1", "M\u00fcller-1"),
        ("M\u00fcller 1", "M\u00fcller 1"),
        ("'000009", "'000009"),
        ('"000006"', '"000006"'),
        ("12E5", "12E5"),
        ("12E-3", "12E-3"),
        ("\u5c71\u7530-1", "\u5c71\u7530-1"),
    ],
)
def test_the_normal_form_changes_nothing_that_can_be_seen(text: str, identifier: str) -> None:
    assert normal(text) == identifier
    assert normal(identifier) == identifier


@pytest.mark.parametrize(
    "cell",
    [
        "000008", '="000008"', "='000008'"[1:], "'000008", '"000008"', '"=""000008"""', '= "000008" ', '=T("000008")',
        "=000008", "\u2019000008", ' "000008" ', "'=\"000008\"", '"\ufeff000008"', "\t000008",
    ],
)  # fmt: skip
def test_marks_of_spreadsheets_and_quotes_are_no_part_of_an_identifier_in_a_cell(cell: str) -> None:
    assert from_cell(cell) == "000008"


@pytest.mark.parametrize("cell", ["'s-Hertogenbosch-1", "O'Hara-1", 'a"b', "=a", "a=1", "-1", "MRN'1", "(1)", "#1"])
def test_what_is_no_mark_of_a_format_stays(cell: str) -> None:
    assert from_cell(cell) == cell


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        (" \u200b\ufeff", "empty"),
        ("a\tb", "control character"),
        ("a\x00b", "control character"),
        ("a\x1b[31mb", "control character"),
        ("a\u0085b", "control character"),
        ("a\u2028b", "control character"),
        ("a\u202eb", "writing direction"),
        ("\u202a000003", "writing direction"),
        ("a\u2066b", "writing direction"),
        ("M\ufffdller", "lost in another encoding"),
        ("a\ud800", "lost in another encoding"),
        ("a\ue000", "does not define"),
        ("x" * 201, "more than 200"),
        ("\U0001f600" * 190, "more than 200"),
        ("1.2346E+11", "scientific"),
        ("1,2346E+11", "scientific"),
        ("1e+21", "scientific"),
        ("1.2E11", "scientific"),
    ],
)
def test_what_no_identifier_is_gets_one_line_that_does_not_quote_it(text: str, problem: str) -> None:
    with pytest.raises(IdentifierError, match=problem) as caught:
        normal(text)
    assert "\n" not in str(caught.value)
    assert len(text) < 3 or text not in str(caught.value)


@pytest.mark.parametrize("text", ["#N/A", "#REF!", "#NV", "#BEZUG!", "########", "NULL", "nan", "NaN", "NA", "None"])
def test_what_a_program_writes_for_a_lost_value_is_no_identifier(text: str) -> None:
    with pytest.raises(IdentifierError, match="missing value"):
        from_cell(text)
    assert from_cell(f"{text}1") == f"{text}1"


def test_an_identifier_with_a_letter_e_is_no_number() -> None:
    assert [*map(is_scientific, ("1E5", "12E-3", "E+11", "1.2.3E+11", "MRN1E+11"))] == [False] * 5


@pytest.mark.parametrize(
    "heading", ["patient_id", "PatientID", "Patient ID", "Patienten-ID", "MRN", "subject_id", "PATIENT-ID:", "id"]
)
def test_usual_headings_are_known_however_they_are_written(heading: str) -> None:
    assert is_heading(heading)


def test_a_heading_that_may_be_the_number_of_a_row_counts_in_a_column_of_its_own_alone() -> None:
    assert not is_heading("id", alone=False)
    assert not is_heading("MRN-1")
