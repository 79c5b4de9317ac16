"""What the store of consents answers, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Kept:
    """A version that is on the disk.

    Attributes:
        patient: the pseudonym.
    """

    resource: str
    version: str
    patient: str
    receipt: str
    received: datetime
    is_new: bool


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest version of a consent.

    Attributes:
        last_update: of any of its versions.
    """

    kept: Kept
    document: dict[str, Any] = field(repr=False)
    last_update: datetime


@dataclass(frozen=True, slots=True)
class StewardItem:
    """A patient whose consents a person must look at; found by the consent's id in the hospital's own system.

    Attributes:
        patient: their identifier, None where the consent names nobody.
    """

    consent: str
    version: str
    reason: str
    since: datetime
    patient: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a FHIR server was read."""

    cursor: datetime | None = None
    baseline: datetime | None = None
    pulled: datetime | None = None
    reconciled: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """Numbers for `fhir status`.

    Attributes:
        unmapped: patients who withdrew and whom the patient map does not name (yet).
    """

    versions: int
    patients: int
    permit: int
    deny: int
    unknown: int
    revoked: int
    unmapped: int
