"""Frozen dataclasses <-> canonical JSON, strictly: no unknown, missing or mistyped field.

Not pydantic, because the verifier reads the same types and must run with the standard library and `cryptography` alone.
Field names become lowerCamelCase, as in in-toto predicates.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from common.errors import EvidenceError
from common.evidence.canonical import Json, canonical, parse_canonical

T = TypeVar("T")

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def encode(value: Any) -> bytes:
    """Canonical bytes of a dataclass instance."""
    return canonical(to_json(value))


def decode(model: type[T], data: bytes) -> T:
    """Instance of the dataclass `model` from canonical bytes, or an `EvidenceError` that names the wrong field."""
    return from_json(model, parse_canonical(data))


def to_json(value: Any) -> Json:
    """The JSON value of a dataclass instance, of a tuple of them, or of a plain value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {_camel(f.name): to_json(item) for f, item in fields if _is_written(f, item)}

    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return value  # type: ignore[no-any-return]  # `canonical` refuses everything that is not JSON


def from_json(model: type[T], value: Json, where: str = "") -> T:
    """Read `value` as `model`: a dataclass, `str`, `int`, `bool`, a `Literal`, `X | None` or `tuple[X, ...]`."""
    result: T = _read(model, value, where)
    return result


def _read(kind: Any, value: Json, where: str) -> Any:
    origin = get_origin(kind)
    arguments = get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read_fields(kind, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(where, "a list")
        return tuple(_read(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))

    if origin in (types.UnionType, Union):
        some = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _read(some, value, where)

    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            raise _wrong(where, "one of " + ", ".join(map(str, arguments)))
        return value

    # Not `isinstance`: True would pass for 1, and be encoded differently.
    if type(value) is not kind:
        raise _wrong(where, kind.__name__)
    return value


def _read_fields(model: Any, value: Json, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where, "an object")
    fields = _fields(model)
    all_fields = dataclasses.fields(model)
    later = {_camel(field.name) for field in all_fields if field.default is not dataclasses.MISSING}
    if missing := sorted(fields.keys() - later - value.keys()):
        raise EvidenceError(f"{where or 'document'}: no field {missing[0]!r}")
    if unknown := value.keys() - fields.keys():
        raise EvidenceError(f"{where or 'document'}: {len(unknown)} unknown field(s)")
    there = {key: field for key, field in fields.items() if key in value}
    values = {name: _read(kind, value[key], f"{where}.{key}".lstrip(".")) for key, (name, kind) in there.items()}

    try:
        result = model(**values)
    except EvidenceError as err:
        raise EvidenceError(f"{where}: {err}" if where else str(err)) from None

    # A default that is written out would be a second encoding of the same value.
    if any(not _is_written(field, getattr(result, field.name)) and _camel(field.name) in value for field in all_fields):
        raise EvidenceError(f"{where or 'document'}: a field holds its default and must be left out")
    return result


def _is_written(field: dataclasses.Field[Any], value: Any) -> bool:
    """Fields with a default were added later; at their default they are left out, so that a value has one encoding."""
    return field.default is dataclasses.MISSING or value != field.default


@functools.cache
def _fields(model: type[Any]) -> dict[str, tuple[str, Any]]:
    """JSON name -> name and type of the field; cached, as resolving annotations is slow and a log has many entries."""
    hints = get_type_hints(model)
    return {_camel(field.name): (field.name, hints[field.name]) for field in dataclasses.fields(model)}


def _wrong(where: str, wanted: str) -> EvidenceError:
    return EvidenceError(f"{where or 'document'} is not {wanted}")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def check_digest(text: str, name: str) -> None:
    """Raise unless `text` is 32 bytes in lower-case hexadecimal."""
    if not _DIGEST.fullmatch(text):
        raise EvidenceError(f"{name} is not a SHA-256 digest of 64 lower-case hexadecimal digits")


def check_text(text: str, name: str) -> None:
    """Raise if `text` is empty."""
    if not text:
        raise EvidenceError(f"{name} is empty")


def check_sorted(items: tuple[str, ...], name: str) -> None:
    """Raise unless `items` are sorted and distinct, so that a set has one encoding."""
    if any(earlier >= later for earlier, later in pairwise(items)):
        raise EvidenceError(f"{name} is not sorted, or holds an item twice")


def check_decimal(text: str, name: str) -> None:
    """Raise unless `text` is a plain decimal number, as `decimal_text` writes it."""
    if not _DECIMAL.fullmatch(text):
        raise EvidenceError(f"{name} is not a decimal number such as -0.25")


def decimal_text(number: float) -> str:
    """Shortest decimal digits that read back as the same float64, without an exponent."""
    # `repr` gives the shortest digits that read back; `Decimal` writes them without an exponent.
    exact = Decimal(repr(float(number)))
    if not exact.is_finite():
        raise EvidenceError(f"a figure is {number}, but only finite numbers can be attested")
    return f"{exact:f}"


def rounded(text: str) -> str:
    """A decimal of a statement rounded to three digits for people; the file has all digits."""
    return f"{round(float(text), 3):g}"


def check_time(text: str, name: str) -> None:
    """Raise unless `text` is a UTC time such as 2026-11-02T08:14:00Z; such texts sort in order of time."""
    # strptime accepts single digits and other spellings: only the text that it would write counts.
    try:
        if datetime.strptime(text, _TIME_FORMAT).strftime(_TIME_FORMAT) == text and text.isascii():
            return
    except ValueError:
        pass

    raise EvidenceError(f"{name} is not a UTC time such as 2026-11-02T08:14:00Z")


def time_text(moment: datetime) -> str:
    """`moment`, which must have a time zone, as a UTC time in whole seconds (RFC 3339)."""
    if moment.tzinfo is None:
        raise EvidenceError("a time without a zone cannot be attested")
    return moment.astimezone(UTC).strftime(_TIME_FORMAT)
