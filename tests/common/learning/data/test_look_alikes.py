"""Which identifiers look like one another without being equal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.learning.data.identifiers.look_alikes import LookAlikes, alike

UUID = "550e8400-e29b-41d4-a716-446655440000"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("000003", "3"), ("MRN-0001", "MRN-1"), ("MRN-1", "mrn1"), ("MRN-1", "MRN_1"), ("MRN-1", "MRN\u20111"),
        ("MRN-1", "MRN\u20131"), ("MRN-1", "1"), ("MRN-1", "\u041cRN-1"),
        ("000003", "\uff10\uff10\uff10\uff10\uff10\uff13"),
        ("000003", "\u0660\u0660\u0660\u0660\u0660\u0663"), ("1234", "1234.0"), ("1234", "1234,00"),
        ("1234567", "1,234,567"), ("1234567", "1.234.567,00"), ("1234567", "1 234 567"),
        ("1234567", "1\u202f234\u202f567"),
        ("1234567890123456789", "1234567890123450000"), ("1234567890123456789", "1234567890123456768"),
        ("1234567890123456789", "1234567890123456800"), ("123456789012", "1.2346E+11"), ("123456789012", "1,23457E+11"),
        ("1-3", "01. Mrz"), ("3-1", "03. Jan"), ("MAR1", "1-Mar"), ("3-1", "2026-01-03"), ("1/3", "01.03.2026"),
        (UUID, UUID.upper()), (UUID, UUID.replace("-", "")), (UUID, f"urn:uuid:{UUID}"), (UUID, f"{{{UUID}}}"),
        ("P0123", "PO123"), ("P1", "Pl"), ("M\u00fcller-1", "Mueller-1"), ("M\u00fcller-1", "Muller-1"),
        ("M\u00fcller-1", "M\u00c3\u00bcller-1"), ("M\u00fcller-1", "M\u00c3\u0192\u00c2\u00bcller-1"),
        ("M\u00fcller-1", "M\u0178ller-1"), ("M\u00fcller-1", "M?ller-1"), ("M\u00fcller-1", "M&uuml;ller-1"),
        ("M\u00fcller-1", "M%C3%BCller-1"), ("Stra\u00dfe-1", "STRASSE-1"), ("\u0418\u0432\u0430\u043d-1", "????-1"),
        ("MRN-1", "MR\u200bN-1"), ("MRN-1", "MR\u00adN-1"), ("7", "Patient 7"),
        ("000123", "urn:oid:1.2.276.0.76|000123"), ("000123", "urn:mrn|123"), ("000123", "000123^^^KLINIK^MR"),
        ("MRN-1", "1^^^&1.2.3&ISO"), ("000123", "MR000123"),
        ("2024-03", "Mrz 24"), ("2024-03", "Mar-24"), ("2024-03", "March 2024"), ("2024-03", "2024-03-01"),
        ("2024-03", "01.03.2024"), ("2024-03", "3/1/2024"), ("2024-03", "45352"), ("03/2024", "Mar-24"),
        ("2024-03-15", "15-Mar-24"), ("2024-03-15", "15.03.24"), ("2024-03-15", "3/15/24"), ("2024-03-15", "45366"),
        ("12E5", "1200000.0"), ("12E5", "1200000"), ("12e5", "1,200,000"), ("12E5", "1.2E+06"), ("12E5", "1,20E+06"),
        ("12E-3", "0.012"), ("12E-3", "0,012"), ("1:02", "01:02:00"),
        ("12345-6", "12345"), ("12345/6", "12345"), ("12345-X", "12345"), ("0012345-6", "12345"),
        ("12345-6", "12345.0"), ("M12345-6", "12345"), ("M12345-6", "M12345"), ("MRN 12345-6", "12345"),
        ("M000123", "000123"), ("m000123", "123"), ("Kl-000123", "000123"), ("kH000123", "000123"),
        ("000123a", "000123"), ("000123-A", "123"), ("Abc000123x", "000123"), ("UKE-4711", "4711"),
    ],
)  # fmt: skip
def test_what_a_spreadsheet_an_encoding_or_a_typist_makes_of_an_identifier_looks_like_it(one: str, other: str) -> None:
    assert alike(one, other)
    assert alike(other, one)
    assert LookAlikes(["elsewhere", one]).of(other) == {one}
    assert LookAlikes(["elsewhere", other]).of(one) == {other}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3", "4"), ("30", "3"), ("100", "1000"), ("12-3", "1-23"), ("MRN-1", "MRN-11"), ("A1", "AE1"), ("A1", "B1"),
        ("M\u00fcller-1", "M\u00f6ller-1"), ("M\u00fcller-1", "M\u00fcller-2"),
        ("1234567890123456", "1234567890123457"),
        (UUID, UUID.replace("5", "6", 1)), ("\u0418\u0432\u0430\u043d-1", "\u041f\u0435\u0442\u0440-1"), ("---", "..."),
        ("urn:mrn|7", "urn:mrn|8"), ("7^^^KLINIK^MR", "8^^^KLINIK^MR"), ("KLINIK", "7^^^KLINIK^MR"),
        ("12345-6", "12345-7"), ("M000123", "F000123"), ("000123a", "000123b"), ("123456", "12345"),
        ("M12345-6", "F12345"), ("2024-03", "2024-04"), ("Mar-24", "Apr-24"), ("2024-1", "2024-2"), ("12E5", "12E6"),
        ("12E5", "125"), ("ward-12", "12"), ("P-11", "11"), ("p-1", "1x"),
        ("123456789012", "1.2347E+11"), ("\u5c71\u7530-1", "\u7530\u4e2d-1"),
    ],
)  # fmt: skip
def test_other_patients_do_not_look_alike(one: str, other: str) -> None:
    assert not alike(one, other)
    assert not alike(other, one)


def test_zeros_within_a_uuid_count() -> None:
    cohort = LookAlikes(f"550e8400-e29b-41d4-a716-{number:012x}" for number in range(20_000))
    strangers = (f"550e8400-e29b-41d4-a716-{number:012x}" for number in range(5_000_000, 5_020_000))
    assert not any(map(cohort.of, strangers))


def test_a_cell_with_several_identifiers_or_a_remark_looks_like_all_that_it_names() -> None:
    known = LookAlikes(["000003", "000004", "Ward"])
    assert known.of("000003, 000004") == {"000003", "000004"}
    assert known.of("000003 (withdrawn)") == {"000003"}
    assert known.of("3;4") == {"000003", "000004"}
    assert known.of("000003, 000009") == frozenset()


def test_an_identifier_never_looks_like_itself() -> None:
    assert LookAlikes(["000003", "3"]).of("3") == {"000003"}


TEXTS = st.text(st.sampled_from("0013eEoOlIaMüößé-_. /,?МВ３Ã¼"), min_size=1, max_size=8)


@given(TEXTS, TEXTS)
def test_looking_alike_is_symmetric_and_the_index_finds_what_the_function_says(one: str, other: str) -> None:
    assert alike(one, other) == alike(other, one)
    if alike(one, other):
        assert one in LookAlikes([one]).of(other)
