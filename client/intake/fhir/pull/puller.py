"""When to pull: after every hook, now and then without one, and once a night everything."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError

from client.intake.fhir.intake import Intake
from client.intake.fhir.pull.pull import Pulled, pull, reconcile
from client.intake.fhir.server import FhirServer
from common.errors import FedForgetError
from common.platform.processes.supervisor import Backoff

LEAST_SECONDS = 1.0
"""Between two pulls, however many hooks arrive."""
_AFTER_A_HOOK = (5.0, 15.0, 60.0)
"""Pauses after a hook whose pull brings nothing: an index or a cache of the server may be behind."""
_BACKOFF = Backoff(first=2.0, most=300.0)

_log = logging.getLogger("fedforget.fhir")


@dataclass(slots=True)
class Puller:
    """Decides at each `step` what to read; a failure is logged, and tried again after a pause that grows.

    Attributes:
        connect: opens the server from what the settings now say; None where there is none to pull from.
        every: seconds between two pulls that no hook asked for.
        hour: local hour after which everything is read.
    """

    intake: Intake
    connect: Callable[[], AbstractContextManager[FhirServer]] | None
    every: float
    overlap: timedelta
    hour: int
    rng: random.Random
    _failures: int = field(init=False, default=0)
    _again: list[float] = field(init=False, default_factory=list)
    _last_weighing: datetime | None = field(init=False, default=None)

    def run(self, poked: threading.Event, stopped: threading.Event) -> None:
        """Step after step until `stopped`; `poked` ends a pause early."""
        while not stopped.is_set():
            if poked.wait(self.step()):
                self._again = list(_AFTER_A_HOOK)
            # Cleared after the pause: one pull answers all hooks that arrive during it.
            stopped.wait(LEAST_SECONDS)
            poked.clear()

    def step(self) -> float:
        """Read once; returns for how many seconds to pause."""
        try:
            # What a process that was killed had kept; before the first pull it is too little to judge by.
            if self.connect is None or self.intake.store.baseline() is not None:
                self.intake.settle()
            if self.connect is not None:
                with self.connect() as server:
                    self._read(server)
            self._weigh_again()
        except (FedForgetError, SQLAlchemyError) as err:
            self._failures += 1
            delay = _BACKOFF.delay(self._failures, self.rng)
            # A database's own text may quote what was to be written.
            reason = str(err) if isinstance(err, FedForgetError) else f"the database failed ({type(err).__name__})"
            _log.warning("%s; next try in %.0f s", reason, delay)

            return delay

        self._failures = 0
        return min(self.every, self._again.pop(0)) if self._again else self.every

    def _weigh_again(self) -> None:
        """Once a night, and when the process begins: no message comes when the period of a consent ends."""
        now = self.intake.clock()
        if self._last_weighing is None or is_night_due(self._last_weighing, now.astimezone(), self.hour):
            revocation_count = self.intake.weigh_again()
            self._last_weighing = now
            if revocation_count:
                _log.info("weighed again: %d denials have begun", revocation_count)

    def _read(self, server: FhirServer) -> None:
        now = self.intake.clock()
        progress = self.intake.store.progress(server.base)
        # Not since the last pull: a night's reading that was cut short has pulled too, and is still to be done.
        last = progress.reconciled or progress.baseline

        if last is not None and is_night_due(last, now.astimezone(), self.hour):
            reconciliation = reconcile(server, self.intake, self.overlap)
            _log.info(
                "reconciled: %d read, %d missed before, %d gone",
                reconciliation.pulled.read,
                reconciliation.pulled.new,
                reconciliation.gone,
            )
            counts = reconciliation.pulled
        else:
            counts = pull(server, self.intake, self.overlap)

        if counts.new:
            # The change that the hook announced has arrived.
            self._again = []
        _tell(counts)


def is_night_due(last: datetime, now: datetime, hour: int) -> bool:
    """Has the hour of the day passed, in the zone of `now`, since `last`?"""
    tonight = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    return last < (tonight if tonight <= now else tonight - timedelta(days=1))


def _tell(counts: Pulled) -> None:
    if counts.new or counts.revoked:
        _log.info("pulled: %d new versions, %d revocations", counts.new, counts.revoked)
    if counts.unusable:
        _log.error("%d consents of the server cannot be handled: see fedforget-site steward list", counts.unusable)
    if counts.others:
        _log.warning("%d entries of the answer are no consents and were left out", counts.others)
