"""Limits what receipts say about people: many unknown ones suggest that somebody tries out names.

A receipt of a withdrawal counts whether its patient is known here. All clients of the endpoint share one budget of
patients who are not known, or doubtful, here. When it is spent, receipts give no numbers about anybody until it has
grown again; withdrawals are always recorded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from client.intake.enumerations import note_enumeration
from client.intake.fhir.decisions.doubts import Counts
from client.intake.fhir.endpoint.answers import receipt
from client.intake.fhir.intake import Intake, TwoPatientsError
from client.intake.fhir.store.values import Kept
from common.platform.listening.rate_limit import RateLimit

BURST = 200.0
PER_HOUR = 60.0
FHIR_CLIENTS = "fhir"
"""All clients of the endpoint, which share the budget."""
_MOST_REMEMBERED = 10_000
_BETWEEN = timedelta(minutes=1)

_log = logging.getLogger("fedforget.fhir")


class Telling:
    """The budget of an endpoint; threads may share it.

    Args:
        clock: the site's.
        burst: size of the full budget.
        per_hour: growth of the budget per hour.
        file: where it is noted that the budget was spent, for the doctor.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        burst: float = BURST,
        per_hour: float = PER_HOUR,
        file: Path | None = None,
    ) -> None:
        self._limit = RateLimit(burst, per_hour / 3600)
        self._clock = clock
        self._file = file
        self._asked: dict[str, None] = {}
        self._warned = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()

    def numbers(self, patient: str, counts: Counts | None) -> Counts | None:
        """What a receipt may say about a patient, by pseudonym; None: nothing."""
        if counts is None:
            return None
        is_allowed = self.may_say(patient) if counts.unknown or counts.doubtful else self._has_left()
        return counts if is_allowed else None

    def receipt(self, intake: Intake, take: Callable[[], Kept]) -> tuple[Kept, dict[str, Any]]:
        """What `take` keeps, and its receipt; with the budget spent, a refusal that tells of two patients is none.

        Raises:
            FedForgetError: as `take`.
        """
        try:
            version = take()
        except TwoPatientsError as err:
            if err.version is None or self.may_say(err.version.patient):
                raise
            version = err.version

        return version, receipt(version, self.numbers(version.patient, intake.counts(version)))

    def may_say(self, patient: str) -> bool:
        """Charge for an answer that tells something about a patient; the same one is charged once."""
        now = self._clock()
        with self._lock:
            if patient in self._asked:
                return self._has_left()
            self._asked[patient] = None
            # Bounded: somebody who tries out names for months must not fill the memory.
            if len(self._asked) > _MOST_REMEMBERED:
                del self._asked[next(iter(self._asked))]
            is_allowed = self._limit.allows(FHIR_CLIENTS, now)
            if not is_allowed and now - self._warned >= _BETWEEN:
                self._warned = now
                _log.warning("receipts give no numbers for now: withdrawals of many unknown people came in")
                if self._file is not None:
                    note_enumeration(self._file, FHIR_CLIENTS, now)

        return is_allowed

    def _has_left(self) -> bool:
        return self._limit.has_left(FHIR_CLIENTS, self._clock())
