"""What the site's notices say: counts and receipts of what needs somebody, never whose."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from client.account.summary import Summary, summarised
from client.revocations.ledger import Ledger
from client.revocations.look_alikes.doubtful import doubts
from client.revocations.revocation import State, is_alike
from client.settings import SiteSettings
from common.platform.notices.notice import Line, Notice
from common.platform.notices.notifier import Daily
from common.platform.notices.words import APPROVE, DOUBTFUL, FAILED, HELD, OVERDUE, SOON


def site_notice(ledger: Ledger, settings: SiteSettings, kind: Daily, now: datetime) -> Notice:
    """The digest, or what is told to the deputy before a due date.

    Raises:
        CohortError: the tombstones are damaged or gone.
    """
    config = settings.notify
    receipts = [one for one in summarised(ledger.standing()) if not is_alike(one.receipt)]
    asked = sorted((one for one in receipts if one.days_left(now) is not None), key=lambda one: one.due)
    days = config.escalate_days if kind == "escalation" else config.soon_days
    last = now + timedelta(days=days)
    lines = [
        _line(OVERDUE, (one for one in asked if one.due < now)),
        _line(SOON, (one for one in asked if now <= one.due < last), days),
    ]
    if kind == "digest":
        waiting = {doubt.asked.receipt for doubt in doubts(ledger)}
        lines += [
            _line(APPROVE, (one for one in receipts if one.states.get(State.AWAITING_APPROVAL))),
            Line(DOUBTFUL, len(waiting), tuple(sorted(waiting))),
            _line(FAILED, (one for one in receipts if one.states.get(State.ESCALATED))),
            _line(HELD, (one for one in receipts if one.states.get(State.ON_HOLD) and one.receipt not in waiting)),
        ]

    due = asked[0].due if asked else None
    return Notice(kind, settings.name, now, tuple(lines), due, settings.console.public_url)


def _line(text: str, receipts: Iterator[Summary], days: int = 0) -> Line:
    items = tuple(one.receipt for one in receipts)
    return Line(text, len(items), items, days)
