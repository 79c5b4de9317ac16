"""What is said of answers that are nearly due: in time, in numbers, and of nobody."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from client.account.reminders import LedgerCollector, Reminders, nearly_due
from client.revocations.ledger import Ledger
from client.revocations.revocation import Request, State
from client.revocations.workflow.campaign_steps import close

Opening = Callable[[], AbstractContextManager[Ledger]]


def test_a_patient_counts_where_the_least_days_are_left(
    opening: Opening, asked: Callable[..., Request], clock: Any
) -> None:
    with opening() as ledger:
        ledger.record(asked("r-1", scope="images"), ["p-0"])
        ledger.record(asked("r-2", received=clock.now + timedelta(days=5)), ["p-0", "p-1", "p-5"])
        found = ledger.standing()
        due = found[0].due
        assert nearly_due(found, due - timedelta(days=15)) == {}
        assert nearly_due(found, due - timedelta(days=6)) == {7: 1, 14: 1}
        assert nearly_due(found, due + timedelta(days=5)) == {0: 2}
        close(ledger, [s.pseudonym for s in found], State.UNLEARNED)
        assert nearly_due(ledger.standing(), due + timedelta(days=5)) == {}


def test_a_hold_that_no_patient_asked_for_is_not_due(
    opening: Opening, asked: Callable[..., Request], clock: Any
) -> None:
    with opening() as ledger:
        assert ledger.record(asked("r-1"), ["P_0"], also_unknown=True).doubtful == 1
        found = ledger.standing()
        assert len(found) == 2
        due = found[0].due
        assert nearly_due(found, due + timedelta(days=5)) == {0: 1}
        registry = CollectorRegistry()
        registry.register(LedgerCollector(ledger))
        ledger.clock = lambda: due
        assert 'fedforget_nearly_due{days="0"} 1.0' in generate_latest(registry).decode()


def test_reminders_come_once_a_day_and_when_something_changes(
    opening: Opening, asked: Callable[..., Request], clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with opening() as ledger:
        reminders = Reminders(ledger)
        ledger.record(asked(), ["p-0"])
        due = ledger.standing()[0].due
        for hours in range(48):
            reminders.step(due - timedelta(days=2) + timedelta(hours=hours))
        assert caplog.text.count("1 patient's answer is due within 3 days") == 2
        assert caplog.text.count("1 patient's answer is due within 1 day:") == 2
        reminders.step(due + timedelta(hours=1))
        assert "1 patient's answer is overdue" in caplog.text
        assert "p-0" not in caplog.text
        assert ledger.pseudonyms.of("p-0") not in caplog.text


def test_the_metrics_are_numbers_by_state_and_say_when_the_ledger_cannot_be_read(
    opening: Opening, asked: Callable[..., Request]
) -> None:
    with opening() as ledger:
        registry = CollectorRegistry()
        registry.register(LedgerCollector(ledger))
        ledger.record(asked(), ["p-0", "p-1", "p-5"])
        due = ledger.standing()[0].due
        ledger.clock = lambda: due
        text = generate_latest(registry).decode()
        assert 'fedforget_revocations{state="pending"} 2.0' in text
        assert 'fedforget_revocations{state="evaluation-only"} 1.0' in text
        assert f"fedforget_first_due_seconds {due.timestamp():.9e}".split("e")[0] in text
        assert 'fedforget_nearly_due{days="0"} 2.0' in text
        assert ledger.pseudonyms.of("p-0") not in text
        ledger.stones.path.write_bytes(b"\n")
        assert "fedforget_ledger_up 0.0" in generate_latest(registry).decode()
