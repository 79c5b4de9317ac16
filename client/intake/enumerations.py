"""Notes which client tried out names, and when; for the doctor."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ValidationError

from common.errors import OutputError
from common.files import write_durable

ENUMERATION_FILE = "enumeration.json"

_log = logging.getLogger("fedforget.intake")


class Enumerations(BaseModel):
    """When each client last spent its budget of unknown people, by name."""

    last: dict[str, datetime] = {}


def read_enumerations(path: Path) -> Enumerations:
    """Read the file; empty if it is missing or damaged."""
    try:
        return Enumerations.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return Enumerations()


def note_enumeration(path: Path, client: str, now: datetime) -> None:
    """Note that a client has spent its budget; a disk that cannot be written is logged."""
    entries_before = read_enumerations(path)
    entries_before.last[client] = now

    try:
        write_durable(path, entries_before.model_dump_json().encode())
    except OutputError as err:
        _log.error("cannot be noted: %s", err)
