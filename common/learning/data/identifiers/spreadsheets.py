"""Identifiers that a spreadsheet takes for a date, a time or a number, and what it writes in their place. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

_MONTHS = ("jan", "feb", "mar|mär|maer|mrz", "apr", "may|mai", "jun", "jul", "aug", "sep", "oct|okt", "nov", "dec|dez")
_MONTH_OF = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split("|")}
MONTH_NAMES = "|".join(_MONTH_OF)
_MONTH = f"({MONTH_NAMES})[a-z]*"
_YEAR = r"(?:19|20)\d\d"
_MIDNIGHT = r"(?:[Tt ]0?0:00(?::00)?)?"
_DAY_AND_MONTH = re.compile(rf"(\d{{1,4}})[\W_]*{_MONTH}[\W_]*({_YEAR}|(?<=[\W_])\d\d)?", re.ASCII)
_MONTH_AND_NUMBER = re.compile(rf"{_MONTH}[\W_]*(\d{{1,4}})", re.ASCII)
_DATE = re.compile(rf"(\d{{1,2}})[./-](\d{{1,2}})[./-]({_YEAR}|\d\d){_MIDNIGHT}", re.ASCII)
_ISO_DATE = re.compile(rf"({_YEAR})[./-](\d{{1,2}})[./-](\d{{1,2}}){_MIDNIGHT}", re.ASCII)
_YEAR_AND_MONTH = re.compile(rf"({_YEAR})[./-](\d{{1,2}})", re.ASCII)
_MONTH_AND_YEAR = re.compile(rf"(\d{{1,2}})[./-]({_YEAR})", re.ASCII)
_TIME = re.compile(r"(\d{1,4}:\d{1,2}):00", re.ASCII)
_EXPONENT = re.compile(r"(\d{1,15})e(-?)(\d{1,3})", re.ASCII)
_MOST_ZEROS = 25
_DAY_ZERO = date(1899, 12, 30)
"""Spreadsheets keep a day as the number of days since this one."""


def spreadsheet_values(folded: str) -> Iterator[str]:
    """What a spreadsheet or a data frame may show for a text in lower case, or may have read to show it."""
    if not any(map(str.isdigit, folded)):
        return

    yield from _dates(folded)
    if number := written_out(folded):
        yield number
    if (time := _TIME.fullmatch(folded)) is not None:
        yield time[1]


def written_out(folded: str) -> str:
    """The number that `12e5` or `12e-3` becomes, 1200000 or 0.012; empty for other texts."""
    match = _EXPONENT.fullmatch(folded)
    if match is None or int(match[3]) > _MOST_ZEROS:
        return ""
    digits = match[1]
    zeros = int(match[3])
    if not match[2]:
        return digits + "0" * zeros

    whole_number = digits.zfill(zeros + 1)
    point = len(whole_number) - zeros
    return f"{whole_number[:point]}.{whole_number[point:].rstrip('0')}".rstrip(".")


def _dates(folded: str) -> Iterator[str]:
    """`1-3`, `3/1` and `MAR1` become a day, month first or day first; `2024-03` becomes `Mar-24` or its first day."""
    if (match := _DAY_AND_MONTH.fullmatch(folded)) is not None:
        yield from _day(match[1], _MONTH_OF[match[2]])
        if match[3]:
            yield _full(match[1], _MONTH_OF[match[2]], match[3])
            yield from _whole_month(match[1], _MONTH_OF[match[2]], match[3])
    elif (match := _MONTH_AND_NUMBER.fullmatch(folded)) is not None:
        yield from _day(match[2], _MONTH_OF[match[1]])
        yield _month(_MONTH_OF[match[1]], match[2])
    elif (match := _DATE.fullmatch(folded)) is not None:
        for day, month in ((match[1], match[2]), (match[2], match[1])):
            if len(match[3]) == 4:
                yield f"{day}-{month}"
            yield _full(day, month, match[3])
            yield from _whole_month(day, month, match[3])
            yield from _serial(match[3], month, day)
    elif (match := _ISO_DATE.fullmatch(folded)) is not None:
        yield from _day(match[3], match[2])
        yield _full(match[3], match[2], match[1])
        yield from _whole_month(match[3], match[2], match[1])
        yield from _serial(match[1], match[2], match[3])
    elif (match := _YEAR_AND_MONTH.fullmatch(folded)) is not None:
        yield _month(match[2], match[1])
        yield from _serial(match[1], match[2], "1")
    elif (match := _MONTH_AND_YEAR.fullmatch(folded)) is not None:
        yield _month(match[1], match[2])
        yield from _serial(match[2], match[1], "1")


def _day(day: str, month: str | int) -> Iterator[str]:
    yield f"{day}-{month}"
    yield f"{month}-{day}"


def _full(day: str, month: str | int, year: str) -> str:
    return f"{int(day)}day{int(month)}month{int(year[-2:])}"


def _month(month: str | int, year: str) -> str:
    return f"{int(month)}month{int(year[-2:])}"


def _whole_month(day: str, month: str | int, year: str) -> Iterator[str]:
    if int(day) == 1:
        yield _month(month, year)


def _serial(year: str, month: str | int, day: str) -> Iterator[str]:
    try:
        yield str((date(int(year), int(month), int(day)) - _DAY_ZERO).days)
    except ValueError:
        return
