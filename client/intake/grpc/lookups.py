"""Limits requests about unknown people: a few are mistakes, many suggest that somebody is guessing names.

Each client has a budget of requests about people who are unknown here or may not be used. When it is spent, the client
gets no answer about anybody until the budget has grown again. Revocations of known people are always accepted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc

from client.intake.enumerations import note_enumeration
from client.intake.grpc.access import Caller, Refusal
from common.platform.listening.rate_limit import RateLimit

BURST = 200.0
PER_HOUR = 60.0
_MOST_REMEMBERED = 10_000
_BETWEEN = timedelta(minutes=1)

_log = logging.getLogger("fedforget.consent")


class Lookups:
    """The budgets of all clients; threads may share it.

    Args:
        burst: size of the full budget.
        per_hour: growth of the budget per hour.
        clock: the time.
        file: where spent budgets are noted.
    """

    def __init__(
        self,
        burst: float = BURST,
        per_hour: float = PER_HOUR,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        file: Path | None = None,
    ) -> None:
        self._limit = RateLimit(burst, per_hour / 3600)
        self._clock = clock
        self._file = file
        self._asked: dict[str, dict[str, None]] = {}
        self._told: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def check(self, caller: Caller) -> None:
        """Raise a `Refusal` if the caller's budget is spent, whoever the request is about."""
        if not self._limit.has_left(caller.fingerprint, self._clock()):
            self._note(caller)
            raise Refusal(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "too many questions about people who are unknown or not permitted here; wait, or ask the steward",
            )

    def in_vain(self, caller: Caller, pseudonym: str) -> None:
        """Charge the caller for a negative answer about somebody; repeating the same request costs nothing."""
        with self._lock:
            lookups_of_caller = self._asked.setdefault(caller.fingerprint, {})
            if pseudonym in lookups_of_caller:
                return
            lookups_of_caller[pseudonym] = None
            # Bounded: a client that tries out names for months must not fill the memory.
            if len(lookups_of_caller) > _MOST_REMEMBERED:
                del lookups_of_caller[next(iter(lookups_of_caller))]

        if not self._limit.allows(caller.fingerprint, self._clock()):
            self._note(caller)

    def _note(self, caller: Caller) -> None:
        now = self._clock()
        with self._lock:
            if now - self._told.get(caller.name, datetime.min.replace(tzinfo=UTC)) < _BETWEEN:
                return
            self._told[caller.name] = now
            _log.warning("the client %s asks for many unknown people: it may be trying out names", caller.name)
            if self._file is not None:
                note_enumeration(self._file, caller.name, now)
