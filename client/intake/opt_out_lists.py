"""Signed lists of patients who opt out: their patients, their kind and their legal basis. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from client.consent.kinds import Kind, read_kind
from common.errors import InputError
from common.learning.data.identifiers.identifiers import IdentifierError, normal
from common.learning.data.tables.patient_list import parse_patient_list, parse_stated
from common.learning.data.tables.table import MOST_SHOWN

MOST_BYTES = 64 * 2**20
_LONGEST_BASIS = 200


class OptOutList(BaseModel):
    """A list in JSON: `{"patients": ["...", ...]}`, optionally with `kind` and `legal_basis`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    patients: tuple[str, ...] = Field(min_length=1)
    kind: Kind | None = None
    legal_basis: str = Field(default="", max_length=_LONGEST_BASIS)


def listed_patients(name: str, content: bytes, is_patient: Callable[[str], bool]) -> Sequence[str]:
    """The patients on a list, read from the signed bytes.

    Raises:
        InputError: the list is malformed; or whatever `is_patient` raises.
    """
    if not name.endswith(".json"):
        return parse_patient_list(content, "", is_patient, most=MOST_BYTES)
    patients = _json_list(content).patients
    identifiers = dict[str, None]()
    wrong = dict[int, str]()

    for number, patient in enumerate(patients, start=1):
        try:
            identifiers[normal(patient)] = None
        except IdentifierError as err:
            wrong[number] = err.problem

    if wrong:
        numbers = [*wrong][:MOST_SHOWN]
        more = len(wrong) - MOST_SHOWN
        line_numbers = ", ".join(map(str, numbers)) + (f" and {more} more" if more > 0 else "")
        raise InputError(f"entry {line_numbers}: {wrong[numbers[0]]}")

    return tuple(identifiers)


def _json_list(content: bytes) -> OptOutList:
    """Refuse duplicate keys, which readers interpret differently."""
    try:
        # Office programs put a byte order mark in front.
        return OptOutList.model_validate(json.loads(content.decode("utf-8-sig"), object_pairs_hook=_unique))
    except (ValueError, RecursionError):  # a ValidationError is one too
        form = (
            'not of the form {"patients": ["id", ...]}, which may state "kind" and "legal_basis", with every key once'
        )
        raise InputError(form) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    identifiers = dict(pairs)
    if len(identifiers) != len(pairs):
        raise ValueError("duplicate key")
    return identifiers


def reason_of(err: InputError) -> str:
    """One line about all wrong rows, up to a limit."""
    rows = [one.where.strip() for one in (err, *err.others) if one.where.strip()]
    more = f" and {err.unlisted} more" if err.unlisted else ""
    where = f"{', '.join(rows)}{more}: " if rows else ""
    remedy = f" ({err.remedy})" if err.remedy else ""

    return f"{where}{err.problem}{remedy}"


def stated(name: str, content: bytes) -> tuple[Kind | None, str]:
    """The kind and the legal basis that a list states for all its patients; a list of ids alone states neither.

    Raises:
        InputError: two of them, or one that nobody knows.
    """
    if name.endswith(".json"):
        json_list = _json_list(content)
        return json_list.kind, json_list.legal_basis.strip()
    statement = parse_stated(content, "", ("kind", "legal_basis"), most=MOST_BYTES)
    basis = statement.get("legal_basis", "")
    if len(basis) > _LONGEST_BASIS or not basis.isprintable():
        raise InputError(f"legal_basis is of at most {_LONGEST_BASIS} printable characters")

    return read_kind(statement["kind"].lower(), "kind") if "kind" in statement else None, basis
