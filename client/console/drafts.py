"""Registrations that were looked at but not confirmed: in memory, each by its person alone, for half an hour."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from client.intake.office import Form
from common.errors import RefusedError
from common.platform.console.sign_in.person import Person

_LIFETIME = timedelta(minutes=30)
_MOST = 200
_MOST_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Draft:
    """A registration before its confirmation.

    Attributes:
        patients: identifiers as they were given, each once.
        alike: patients whom an identifier may mean, by identifier.
        is_list: whether several patients share the receipt.
    """

    person: tuple[str, str]
    form: Form = field(repr=False)
    patients: tuple[str, ...] = field(repr=False)
    alike: dict[str, tuple[str, ...]] = field(repr=False)
    at: datetime


class Drafts:
    """The drafts of a process."""

    def __init__(self) -> None:
        self._drafts: dict[str, Draft] = {}
        self._lock = threading.Lock()

    def keep(self, draft: Draft) -> str:
        """Keep a draft and return its number.

        Raises:
            RefusedError: too many, or too large ones, are waiting.
        """
        number = secrets.token_urlsafe(16)
        with self._lock:
            # Forms are held in memory: what is too old goes before anything is added.
            self._drafts = {key: one for key, one in self._drafts.items() if draft.at - one.at < _LIFETIME}
            byte_count = sum(len(one.form.document) for one in self._drafts.values())
            if len(self._drafts) >= _MOST or byte_count + len(draft.form.document) > _MOST_BYTES:
                raise RefusedError("too many registrations are waiting for confirmation: try again later")
            self._drafts[number] = draft

        return number

    def of(self, number: str, person: Person, now: datetime) -> Draft:
        """A draft of this person.

        Raises:
            RefusedError: there is none, it is another's, or it is too old.
        """
        with self._lock:
            draft = self._drafts.get(number)
        if draft is None or draft.person != person.key or now - draft.at > _LIFETIME:
            raise RefusedError("this registration was already confirmed, or has expired: look at the queue")
        return draft

    def drop(self, number: str) -> None:
        """Forget a draft."""
        with self._lock:
            self._drafts.pop(number, None)
