"""Canonical JSON: one value has exactly one encoding, so bytes can be signed and compared.

A subset of RFC 8785 (JSON Canonicalization Scheme) without fractions: numbers are integers that every JSON reader
holds exactly (at most 2**53 - 1 in size); a fraction is written as a decimal string, see `schema.Decimal`.
"""

from __future__ import annotations

import json
from typing import NoReturn, TypeAlias

from common.errors import EvidenceError

Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"

LARGEST_INTEGER = 2**53 - 1
DEEPEST = 32
"""Levels of nesting. Nothing we sign comes near it, and a hostile file must not exhaust the stack."""


def canonical(value: Json) -> bytes:
    """Encode `value` without spaces, keys in order of UTF-16 code units (RFC 8785, 3.2.3), as UTF-8.

    Raises:
        EvidenceError: the value holds a fraction, a large integer, a lone surrogate or something that is not JSON.
    """
    try:
        return json.dumps(_ordered(value, 0), ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError:
        raise EvidenceError("a string holds half of a surrogate pair and has no UTF-8 encoding") from None


def parse_canonical(data: bytes) -> Json:
    """Parse `data` and refuse every byte string that `canonical` would not have written.

    Raises:
        EvidenceError: not JSON, or JSON in another encoding (spaces, order, escapes, repeated keys, fractions).
    """
    try:
        # Floats, NaN and infinity are refused where they are parsed, or an inexact number would have been made of them.
        value: Json = json.loads(data.decode("utf-8"), parse_float=_no_fraction, parse_constant=_no_fraction)
    except (ValueError, RecursionError):
        raise EvidenceError("not JSON of integers, strings, lists and objects in UTF-8") from None

    # Encoding again catches what the parser tolerates: spaces, key order, escapes, repeated keys.
    if canonical(value) != data:
        raise EvidenceError("JSON that is not in canonical form: its bytes are not the one encoding of its value")
    return value


def _no_fraction(text: str) -> NoReturn:
    raise ValueError(text)


def _ordered(value: Json, depth: int) -> Json:
    if depth > DEEPEST:
        raise EvidenceError(f"JSON nested deeper than {DEEPEST} levels")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise EvidenceError("a key of a JSON object is not a string")
        # UTF-16 units sort astral characters before U+E000 to U+FFFF; Python's own order of strings does not.
        keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        return {key: _ordered(value[key], depth + 1) for key in keys}

    if isinstance(value, list):
        return [_ordered(item, depth + 1) for item in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and abs(value) <= LARGEST_INTEGER:
        return value
    raise EvidenceError(f"{type(value).__name__} that canonical JSON cannot hold; write fractions as decimal strings")
