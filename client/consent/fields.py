"""Fields of a FHIR resource, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.errors import InputError


class UnreadableConsentError(InputError):
    """A resource that is no Consent of a known version, or says something that FHIR does not define."""


def text_of(value: Mapping[str, Any], name: str) -> str:
    """A text; empty where the field is missing."""
    text = value.get(name, "")
    # FHIR has no empty values: an empty one says something that this code does not understand.
    if not isinstance(text, str) or (name in value and not text):
        raise UnreadableConsentError(f"{name} is not text")
    return text


def object_of(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object; empty where the field is missing."""
    inner = value.get(name, {})
    if not isinstance(inner, dict) or (name in value and not inner):
        raise UnreadableConsentError(f"{name} is not an object with content")
    return inner


def objects_of(value: Mapping[str, Any], name: str, *, one: bool = False) -> list[Mapping[str, Any]]:
    """A list of objects, or the one object of a field that is no list in this version of FHIR."""
    if one:
        return [object_of(value, name)]
    items = value.get(name, [])
    if (
        not isinstance(items, list)
        or not all(isinstance(item, dict) for item in items)
        or (name in value and not items)
    ):
        raise UnreadableConsentError(f"{name} is not a list of objects")

    return items
