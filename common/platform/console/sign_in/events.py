"""What a console keeps about its people: sign-ins, views of patients, changes. A side says where it is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person did.

    Attributes:
        kind: e.g. `signed-in`, `patient-viewed`.
        issuer: who says who the person is.
        details: further facts, which identify no patient.
    """

    at: datetime
    kind: str
    issuer: str
    subject: str
    name: str
    details: Mapping[str, str]


Recorder = Callable[[Event], None]
