"""Due dates of revocations by GDPR Art. 12(3): one month from receipt, extensible by two. Pure.

https://eur-lex.europa.eu/eli/reg/2016/679/oj, https://eur-lex.europa.eu/eli/reg/1971/1182/oj: a month ends on the day
of the same date, or on its last day where it has no such date. The hour of the receipt is kept, which is never later.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import datetime, timedelta

from common.errors import InputError, RefusedError

FURTHER_MONTHS = 2
"""Longest extension, in months."""


def months_after(moment: datetime, months: int) -> datetime:
    """The same hour, `months` calendar months later."""
    years, month = divmod(moment.month - 1 + months, 12)
    year = moment.year + years
    month = month + 1

    return moment.replace(year=year, month=month, day=min(moment.day, monthrange(year, month)[1]))


def first_due(received: datetime, days_to_answer: float | None = None) -> datetime:
    """One month after receipt, or earlier if the site has promised an answer within fewer days."""
    month = months_after(received, 1)
    return month if days_to_answer is None else min(month, received + timedelta(days=days_to_answer))


def check_extension(received: datetime, due: datetime, new: datetime, now: datetime, reason: str) -> None:
    """Refuse a new due date that the law does not allow.

    Raises:
        InputError: no reason, or not later than the present date.
        RefusedError: it is after the first month, or the extension exceeds two months.
    """
    if not reason.strip():
        raise InputError("an extension needs a reason, which the patient is told", remedy="give --reason")
    if new <= due:
        raise InputError("the date is not later than the present due date", remedy="give a later date")
    if now > months_after(received, 1):
        raise RefusedError("the patient must be told of an extension within one month of the receipt; it is over")
    if new > months_after(received, 1 + FURTHER_MONTHS):
        raise RefusedError("the deadline can be extended by at most two further months")
