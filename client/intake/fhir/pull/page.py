"""One page of a FHIR server's answer, read so that a damaged entry does not take the others with it."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from client.intake.fhir.resources import Resource
from client.intake.fhir.strict_json import DEEPEST, UnusableResourceError, is_deeper

_DEEPEST_PAGE = 200
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{\]}]', re.DOTALL)
"""Strings, passed over whole and without going back, and what nests."""
_LONGEST_NUMBER = 400


@dataclass(frozen=True, slots=True)
class Page:
    """What a page holds.

    Attributes:
        consents: its Consents.
        unclear: Consents that two readers would read differently: a key twice, a number that is none, broken text.
        others: resources of another kind.
        problems: of these, outcomes that the server put in with an error.
        links: addresses by relation.
        date: the server's clock, where it told.
    """

    consents: tuple[Resource, ...]
    unclear: tuple[Resource, ...] = ()
    others: int = 0
    problems: int = 0
    links: tuple[tuple[str, str], ...] = ()
    date: datetime | None = None


class _Unclear(dict[str, Any]):
    """An object of which readers may see different things."""


class _NotANumber:
    """Something that JSON does not know, or a number beyond all sense."""


def read_page(content: bytes, charset: str = "") -> Page:
    """Read a Bundle of a search's results or of a history.

    Raises:
        UnusableResourceError: it is no such Bundle.
    """
    bundle = _parsed(_text(content, charset))
    if bundle.get("resourceType") != "Bundle" or bundle.get("type") not in ("searchset", "history"):
        raise UnusableResourceError("the answer to a search is not a Bundle of its results")
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        raise UnusableResourceError("the entries of a Bundle are not a list")
    consents = []
    unclear = []
    others = []

    for entry in entries:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict):
            continue
        if resource.get("resourceType") != "Consent":
            others.append(resource)
        elif _is_unclear(entry):
            unclear.append(resource)
        else:
            consents.append(resource)

    problems = sum(map(_is_problem, others))

    return Page(tuple(consents), tuple(unclear), len(others), problems, tuple(_links(bundle)))


def read_unclear(content: bytes) -> Resource | None:
    """What can be made out of one resource that two readers would read differently; None if nothing can."""
    try:
        return _parsed(_text(content, ""))
    except UnusableResourceError:
        return None


def _text(content: bytes, charset: str) -> str:
    """In the charset that the answer names, else UTF-8; bytes that are none are kept as lone surrogates."""
    try:
        name = codecs.lookup(charset).name if charset else "utf-8"
    except LookupError:
        name = "utf-8"

    return content.decode(name, "surrogateescape" if name == "utf-8" else "replace").removeprefix("\ufeff")


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = _loads(text)
    # One entry may be nested so deeply that no parser reads the page: it is cut out, so that the others are read.
    except RecursionError:
        try:
            value = _loads(_without_depths(text))
        except (ValueError, RecursionError):
            value = None
    except ValueError:
        value = None

    if not isinstance(value, dict):
        raise UnusableResourceError("the answer to a search is not a JSON object")
    return value


def _loads(text: str) -> Any:
    return json.loads(
        text,
        object_pairs_hook=_object,
        parse_constant=lambda _: _NotANumber(),
        # Python converts long numbers in quadratic time, and gives up the whole page beyond 4,300 digits.
        parse_int=lambda digits: int(digits) if len(digits) <= _LONGEST_NUMBER else _NotANumber(),
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else _Unclear(value)


def _without_depths(text: str) -> str:
    """The text with everything left out that is nested too deeply for any parser."""
    parts = []
    depth = 0
    end = 0

    for match in _BRACKETS.finditer(text):
        if match[0] in "[{":
            depth += 1
            if depth == _DEEPEST_PAGE + 1:
                parts.append(text[end : match.start()] + "NaN")
        elif match[0] in "]}":
            depth -= 1
            if depth == _DEEPEST_PAGE:
                end = match.end()

    return "".join([*parts, text[end:]])


def _is_unclear(value: object) -> bool:
    return is_deeper(value, DEEPEST + 1) or any(map(_marks_doubt, _inside(value)))


def _marks_doubt(value: object) -> bool:
    if isinstance(value, str):
        return not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value)
    return isinstance(value, _Unclear | _NotANumber)


def _inside(value: object) -> Iterator[object]:
    # Without recursion: what is inside may be nested deeper than Python's stack.
    waiting = [value]
    while waiting:
        value = waiting.pop()
        yield value

        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value


def _is_problem(resource: Resource) -> bool:
    issues = resource.get("issue")
    return resource.get("resourceType") == "OperationOutcome" and any(
        isinstance(issue, dict) and issue.get("severity") in ("fatal", "error")
        for issue in (issues if isinstance(issues, list) else [])
    )


def _links(bundle: Resource) -> Iterator[tuple[str, str]]:
    links = bundle.get("link")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and isinstance(link.get("relation"), str) and isinstance(link.get("url"), str):
            yield link["relation"], link["url"]
