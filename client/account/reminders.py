"""Reminds of answers that are nearly due: in the log once a day, and as metrics. Numbers alone, never whose."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from client.revocations.ledger import Ledger
from client.revocations.revocation import OPEN, RevocationStatus, State, nobody_asked
from common.errors import FedForgetError

DAYS = (14, 7, 3, 1, 0)
"""A reminder comes when fewer are left; with 0 the answer is overdue."""
_EVERY = timedelta(hours=1)

_log = logging.getLogger("fedforget.ledger")


def nearly_due(revocations: Iterable[RevocationStatus], now: datetime) -> dict[int, int]:
    """How many patients' answers are due within so many of `DAYS`, each counted where the least are left."""
    first: dict[str, datetime] = {}
    # One answer per patient, at the first of their dates.
    for standing in filter(_is_due, revocations):
        first[standing.pseudonym] = min(standing.due, first.get(standing.pseudonym, standing.due))

    within = (min((days for days in DAYS if due <= now + timedelta(days=days)), default=None) for due in first.values())

    return {days: number for days, number in Counter(within).items() if days is not None}


def _is_due(standing: RevocationStatus) -> bool:
    """Whether an answer is owed: nobody waits for one to a hold that no patient has asked for."""
    return standing.state in OPEN and not (standing.state is State.ON_HOLD and nobody_asked(standing.receipt))


@dataclass(slots=True)
class Reminders:
    """Logs, when `step` is called, what is nearly due: when that changes, and once a day."""

    ledger: Ledger
    _last_look: datetime | None = field(init=False, default=None)
    _last_reminder: tuple[object, dict[int, int]] | None = field(init=False, default=None)

    def step(self, now: datetime) -> None:
        """Look at most once an hour.

        Raises:
            CohortError: the tombstones are damaged or gone.
        """
        if self._last_look is not None and now - self._last_look < _EVERY:
            return
        self._last_look = now
        due_counts = nearly_due(self.ledger.standing(), now)
        # With the day in it, the same counts are said again on the next day.
        if self._last_reminder == (now.date(), due_counts):
            return
        self._last_reminder = (now.date(), due_counts)
        for days in sorted(due_counts):
            when = f"due within {days} day{'' if days == 1 else 's'}" if days else "overdue"
            log = _log.error if days == 0 else _log.warning
            patients = "1 patient's answer is" if due_counts[days] == 1 else f"{due_counts[days]} patients' answers are"
            log("%s %s: see fedforget-site revocations list", patients, when)


class LedgerCollector(Collector):
    """Asks the ledger at each scrape; one that does not answer is a metric of its own."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering asks no database."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The metrics as they stand."""
        answers = GaugeMetricFamily("fedforget_ledger_up", "1 when database and tombstones can be read.")

        try:
            metrics = self._metrics()
        except (FedForgetError, SQLAlchemyError):
            metrics = ()

        answers.add_metric([], float(bool(metrics)))

        return answers, *metrics

    def _metrics(self) -> tuple[Metric, ...]:
        # Raises where the tombstones are damaged, and `fedforget_ledger_up` shows it.
        self._ledger.stopped()
        standing = self._ledger.standing()
        now = self._ledger.clock()
        states = GaugeMetricFamily("fedforget_revocations", "Revocations in each state.", labels=["state"])
        counts = Counter(one.state for one in standing)
        for state in State:
            states.add_metric([state], counts[state])
        due = GaugeMetricFamily("fedforget_first_due_seconds", "First due date of those that are open, Unix time.")
        if dates := [one.due for one in standing if _is_due(one)]:
            due.add_metric([], min(dates).timestamp())
        near = GaugeMetricFamily("fedforget_nearly_due", "Patients whose answer is due so soon.", labels=["days"])
        due_counts = nearly_due(standing, now)
        for days in DAYS:
            near.add_metric([str(days)], due_counts.get(days, 0))
        return states, due, near
