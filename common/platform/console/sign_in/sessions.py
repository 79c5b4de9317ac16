"""Sessions of people who are signed in. They live in memory: after a restart, everybody signs in again."""

from __future__ import annotations

import hashlib
import secrets
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from common.platform.console.sign_in.person import Person

MOST_SESSIONS = 5000
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence for the next page that a person sees; `kind` is `done` or `problem`."""

    text: str
    kind: str = "done"


@dataclass(slots=True)
class Session:
    """A session.

    Attributes:
        number: names it in limits; never sent to a browser.
        fresh: when the person last proved who they are.
    """

    number: str
    person: Person
    start: datetime
    last_request: datetime
    fresh: datetime
    notices: list[Notice] = field(default_factory=list)


def new_token() -> str:
    """An unpredictable value for a cookie."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


class Sessions:
    """The open sessions, by the digest of their cookie: a copy of this process's memory signs nobody in by itself.

    Args:
        idle: without a request after which a session ends.
        longest: after sign-in after which it ends in any case.
    """

    def __init__(self, idle: timedelta, longest: timedelta) -> None:
        self._idle = idle
        self._longest = longest
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    def begin(self, person: Person, now: datetime) -> str:
        """Begin a session and return the new value of its cookie."""
        token = new_token()
        number = _digest(token)

        with self._lock:
            self._drop_ended(now)
            if len(self._open) >= MOST_SESSIONS:
                # At the limit the longest idle session ends; refusing would let one person with many sessions lock all
                # out.
                del self._open[min(self._open, key=lambda key: self._open[key].last_request)]
            self._open[number] = Session(number, person, now, now, now)

        return token

    def find(self, token: str, now: datetime) -> Session | None:
        """The session of a cookie, unless it has ended."""
        with self._lock:
            session = self._open.get(_digest(token))
            if session is None:
                return None
            if self._has_ended(session, now):
                del self._open[session.number]
                return None
            session.last_request = now
            return session

    def is_open(self, session: Session, now: datetime) -> bool:
        """Whether a session has not ended; does not count as a request."""
        with self._lock:
            return session.number in self._open and not self._has_ended(session, now)

    def end(self, session: Session) -> None:
        """End a session."""
        with self._lock:
            self._open.pop(session.number, None)

    def end_of(self, issuer: str, subject: str) -> int:
        """End all sessions of a person, e.g. after their roles have changed; returns their number."""
        with self._lock:
            numbers = [key for key, one in self._open.items() if one.person.key == (issuer, subject)]
            for number in numbers:
                del self._open[number]
            return len(numbers)

    def __len__(self) -> int:
        """The number of sessions that have not been found to have ended."""
        return len(self._open)

    def _drop_ended(self, now: datetime) -> None:
        for number in [key for key, session in self._open.items() if self._has_ended(session, now)]:
            del self._open[number]

    def _has_ended(self, session: Session, now: datetime) -> bool:
        return now - session.last_request > self._idle or now - session.start > self._longest


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
