"""JSON of a FHIR resource, read strictly: no key twice, no nesting without end."""

from __future__ import annotations

import json
from typing import Any

from common.errors import InputError

DEEPEST = 40


class UnusableResourceError(InputError):
    """Something that is no FHIR resource of a kind that is taken here; says nothing of its content."""


def parse_json(content: bytes) -> dict[str, Any]:
    """One JSON object of which every reader reads the same: no key twice, no NaN, not nested beyond reason.

    Raises:
        UnusableResourceError: anything else.
    """
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refused)
    except (ValueError, RecursionError):
        raise UnusableResourceError("not one JSON object in UTF-8 with every key once") from None

    if not isinstance(value, dict) or is_deeper(value, DEEPEST):
        raise UnusableResourceError("not one JSON object, or nested too deeply")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key twice")
    return value


def _refused(text: str) -> Any:
    raise ValueError(text)


def is_deeper(value: object, levels: int) -> bool:
    """Is a parsed value nested deeper than so many levels?"""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(is_deeper(item, levels - 1) for item in inner)
