from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import EvidenceError
from common.evidence.schema import check_decimal, check_digest, check_time, decimal_text, decode, encode, time_text


@dataclass(frozen=True)
class Inner:
    some_count: int


@dataclass(frozen=True)
class Outer:
    name: str
    on: bool
    kind: Literal["x", "y"]
    note: str | None
    parts: tuple[Inner, ...]


GOOD = b'{"kind":"x","name":"n","note":null,"on":true,"parts":[{"someCount":1}]}'


def test_a_dataclass_survives_the_way_to_bytes_and_back() -> None:
    value = decode(Outer, GOOD)
    assert value == Outer("n", True, "x", None, (Inner(1),))
    assert encode(value) == GOOD


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b'"kind":"x"', b'"kind":"z"', "kind is not one of x, y"),
        (b'"kind":"x"', b'"kind":["x"]', "kind is not one of"),
        (b'"name":"n"', b'"name":1', "name is not str"),
        (b'"name":"n",', b"", "no field 'name'"),
        (b'"note":null', b'"note":0', "note is not str"),
        (b'"on":true', b'"on":1', "on is not bool"),
        (b'"parts":[', b'"more":0,"parts":[', "1 unknown field"),
        (b'{"someCount":1}', b'{"someCount":true}', r"parts\[0\].someCount is not int"),
        (b'{"someCount":1}', b'{"some_count":1}', r"parts\[0\]: no field 'someCount'"),
        (b'{"someCount":1}', b"[]", r"parts\[0\] is not an object"),
        (b'[{"someCount":1}]', b"{}", "parts is not a list"),
    ],
)
def test_a_wrong_field_is_named(old: bytes, new: bytes, says: str) -> None:
    data = GOOD.replace(old, new)
    if old.startswith(b'"parts"'):
        data = b'{"kind":"x","more":0,"name":"n","note":null,"on":true,"parts":[]}'
    with pytest.raises(EvidenceError, match=says):
        decode(Outer, data)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_figure_survives_as_a_decimal_string(number: float) -> None:
    text = decimal_text(number)
    check_decimal(text, "figure")
    assert float(text) == number


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_figure_that_is_not_finite_is_not_attested(number: float) -> None:
    with pytest.raises(EvidenceError):
        decimal_text(number)


@pytest.mark.parametrize("text", ["", "1.", ".5", "+1", "1e3", "01", "0,5", "١", "1\n", "NaN"])
def test_another_spelling_of_a_number_is_refused(text: str) -> None:
    with pytest.raises(EvidenceError):
        check_decimal(text, "figure")


@pytest.mark.parametrize("text", ["", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n", "a" * 65])
def test_another_spelling_of_a_digest_is_refused(text: str) -> None:
    with pytest.raises(EvidenceError):
        check_digest(text, "digest")


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-02T08:14:00",
        "2026-11-02T08:14:00+00:00",
        "2026-11-02 08:14:00Z",
        "2026-13-02T08:14:00Z",
        "2026-02-30T08:14:00Z",
        "2026-1-02T08:14:00Z",
        "2026-11-02T08:14:00.5Z",
        "2026-11-02T08:14:00Z\n",
        "٢٠٢٦-11-02T08:14:00Z",
    ],
)
def test_another_spelling_of_a_time_is_refused(text: str) -> None:
    with pytest.raises(EvidenceError):
        check_time(text, "time")


def test_a_time_is_written_in_utc_and_needs_a_zone() -> None:
    moment = datetime(2026, 11, 2, 9, 14, tzinfo=timezone(timedelta(hours=1)))
    assert time_text(moment) == "2026-11-02T08:14:00Z" == time_text(moment.astimezone(UTC))
    with pytest.raises(EvidenceError, match="zone"):
        time_text(datetime(2026, 11, 2, 9, 14))
