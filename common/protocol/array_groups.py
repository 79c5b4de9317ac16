"""Group many small arrays into one: Flower stores and sends each array as two objects, with two requests at a time.

A model of a hundred small tensors costs two hundred requests per site and direction; in a group it costs two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from flwr.app import Array, ArrayRecord
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, RootModel, ValidationError

from common.errors import WireError

LARGE = 2**20
"""Bytes from which an array is sent by itself."""
MOST = 4 * 2**20
"""Maximum bytes of a group: the size of the pieces into which Flower cuts arrays."""
# `stype` of a group: length of the head in 8 bytes, the head (JSON), then the bytes of all arrays.
_GROUP = "fedforget.group"
_LENGTH = 8


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    name: str
    dtype: str
    shape: tuple[NonNegativeInt, ...] = Field(strict=False)
    stype: str
    bytes: NonNegativeInt


_Head = RootModel[tuple[_Entry, ...]]


def group(record: ArrayRecord) -> ArrayRecord:
    """The arrays of `record`, those under `LARGE` bytes in groups of at most `MOST`."""
    arrays: dict[str, Array] = {}
    small: list[tuple[str, Array]] = []
    gathered = 0

    for name, array in record.items():
        if len(array.data) >= LARGE:
            arrays[name] = array
            continue

        if small and gathered + len(array.data) > MOST:
            arrays[f"{_GROUP}.{len(arrays)}"] = _join(small)
            small = []
            gathered = 0

        small.append((name, array))
        gathered += len(array.data)

    if small:
        arrays[f"{_GROUP}.{len(arrays)}"] = _join(small)
    return ArrayRecord(arrays, keep_input=False)


class Member(NamedTuple):
    """An array of a group; its data are a view of the group's."""

    dtype: str
    shape: tuple[int, ...]
    stype: str
    data: memoryview


def ungroup(record: ArrayRecord) -> dict[str, Array | Member]:
    """The arrays that `group` was given.

    Raises:
        WireError: a group that cannot be read, or two arrays of one name.
    """
    arrays: dict[str, Array | Member] = {}

    for name, array in record.items():
        for member, one in _split(array) if array.stype == _GROUP else [(name, array)]:
            if member in arrays:
                raise WireError("weights that cannot be read: two arrays of one name")
            arrays[member] = one

    return arrays


def _join(small: list[tuple[str, Array]]) -> Array:
    entries = (
        _Entry(name=name, dtype=a.dtype, shape=tuple(a.shape), stype=a.stype, bytes=len(a.data)) for name, a in small
    )
    head = _Head(tuple(entries)).model_dump_json().encode()
    data = b"".join([len(head).to_bytes(_LENGTH, "big"), head, *(array.data for _, array in small)])
    return Array("uint8", (len(data),), _GROUP, data)


def _split(array: Array) -> Iterator[tuple[str, Member]]:
    at = _LENGTH + int.from_bytes(array.data[:_LENGTH], "big")
    try:
        # A length beyond the data cuts the slice short, and what is left is no JSON.
        head = _Head.model_validate_json(array.data[_LENGTH:at]).root
    except ValidationError:
        raise WireError("weights that cannot be read: a group without a head") from None

    # Every byte belongs to an array: otherwise something could travel along unseen.
    if at + sum(entry.bytes for entry in head) != len(array.data):
        raise WireError("weights that cannot be read: a group of another length")
    data = memoryview(array.data)
    for entry in head:
        # Views, not copies: a group may hold megabytes.
        yield entry.name, Member(entry.dtype, entry.shape, entry.stype, data[at : at + entry.bytes])
        at += entry.bytes
