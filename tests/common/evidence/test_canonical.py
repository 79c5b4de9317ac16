from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import EvidenceError
from common.evidence.canonical import DEEPEST, LARGEST_INTEGER, Json, canonical, parse_canonical

scalars = st.none() | st.booleans() | st.integers(-LARGEST_INTEGER, LARGEST_INTEGER) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)


@given(values)
def test_what_was_encoded_parses_to_the_same_value(value: Json) -> None:
    assert parse_canonical(canonical(value)) == value


@given(values)
def test_only_the_canonical_one_of_pythons_encodings_parses(value: Json) -> None:
    for other in (json.dumps(value, indent=1), json.dumps(value), json.dumps(value) + "\n"):
        if other.encode() != canonical(value):
            with pytest.raises(EvidenceError):
                parse_canonical(other.encode())


def test_keys_and_escapes_are_those_of_rfc_8785() -> None:
    # RFC 8785, 3.2.3: its example of sorting by UTF-16 code units.
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    ordered = list(json.loads(canonical(dict.fromkeys(keys, 0))))
    assert ordered == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    # RFC 8785, 3.2.2.2: the string of its example.
    assert canonical('\u20ac$\u000f\nA\'B"\\\\"/') == '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'.encode()


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b' {"a":1}',
        b'{"a":1}\n',
        b'\xef\xbb\xbf{"a":1}',
        b'{"\\u0061":1}',
        b'"\\/"',
        b'"\\u001F"',
        b'"\x7f\xff"',
        b'"\\ud800"',
        b"1.0",
        b"1e3",
        b"-0",
        b"01",
        b"NaN",
        b"-Infinity",
        b"9007199254740992",
        b"9" * 5000,
        b"[" * 100_000,
        b"[" * 40 + b"]" * 40,
        b"",
        b"{}{}",
    ],
    ids=lambda data: data[:16].decode("latin-1"),
)
def test_every_other_encoding_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_canonical(data)


@pytest.mark.parametrize("value", [0.5, float("nan"), 2**53, "\ud800", {"a": {1: 2}}, b"bytes", (1,)], ids=repr)
def test_a_value_without_a_canonical_form_is_not_encoded(value: Json) -> None:
    with pytest.raises(EvidenceError):
        canonical(value)


def test_nesting_is_bounded_at_its_limit() -> None:
    value: Json = 0
    for _ in range(DEEPEST):
        value = [value]
    assert parse_canonical(canonical(value)) == value
    with pytest.raises(EvidenceError, match="deeper"):
        canonical([value])
