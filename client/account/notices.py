"""What the site's notices say: counts and receipts of what needs somebody, never whose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice

from client.account.summary import summarised
from client.revocations.ledger import Ledger
from client.revocations.look_alikes.doubtful import doubts
from client.revocations.revocation import State, is_alike
from client.settings import SiteSettings
from common.platform.notices.notice import MOST_SHOWN, Line, Notice
from common.platform.notices.notifier import Daily
from common.platform.notices.words import APPROVE, DOUBTFUL, FAILED, HELD, OVERDUE, SOON


def site_notice(ledger: Ledger, settings: SiteSettings, kind: Daily, now: datetime) -> Notice:
    """The digest, or what is told to the deputy before a due date.

    Raises:
        CohortError: the tombstones are damaged or gone.
    """
    config = settings.notify
    # Holds on look-alikes are decided under the receipt of the identifier that they resemble.
    receipts = [one for one in summarised(ledger.standing()) if not is_alike(one.receipt)]
    by_due = sorted((one for one in receipts if one.days_left(now) is not None), key=lambda one: one.due)
    days = config.escalate_days if kind == "escalation" else config.soon_days
    last = now + timedelta(days=days)
    lines = [
        _line(OVERDUE, (one.receipt for one in by_due if one.due < now)),
        _line(SOON, (one.receipt for one in by_due if now <= one.due < last), days),
    ]
    if kind == "digest":
        on_hold = [one for one in receipts if one.states.get(State.ON_HOLD)]
        waiting = {doubt.revocation.receipt for doubt in doubts(ledger)}
        lines += [
            _line(APPROVE, (one.receipt for one in receipts if one.states.get(State.AWAITING_APPROVAL))),
            _line(DOUBTFUL, sorted(waiting)),
            _line(FAILED, (one.receipt for one in receipts if one.states.get(State.ESCALATED))),
            _line(HELD, (one.receipt for one in on_hold if one.receipt not in waiting)),
        ]

    due = by_due[0].due if by_due else None
    # Mail and chat leave the hospital: the last look before they do.
    safe = tuple(replace(line, items=_no_names(ledger, line.items)) for line in lines)
    return Notice(kind, settings.name, now, safe, due, settings.console.public_url)


def _no_names(ledger: Ledger, receipts: Iterable[str]) -> tuple[str, ...]:
    """The first receipts, but for those that are identifiers: an earlier release took any text for a receipt."""
    return tuple(islice((receipt for receipt in receipts if not ledger.is_near(receipt)), MOST_SHOWN))


def _line(text: str, receipts: Iterable[str], days: int = 0) -> Line:
    items = tuple(receipts)
    return Line(text, len(items), items, days)
