"""Long numbers of which a program has kept the first digits alone: scientific notation, or zeros at the end. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from common.learning.data.identifiers.identifiers import is_scientific
from common.learning.data.identifiers.spreadsheets import written_out

# Digits that a spreadsheet keeps; other programs keep up to two more.
_EXACT = 15
_KEPT = (15, 16, 17)
_LONGEST = 40
_PARTS = re.compile(r"[+-]?(\d+)(?:[.,](\d+))?e\+?(\d{1,3})", re.ASCII)
_NUMBER = re.compile(r"([\d ,.'_-]*\d)", re.ASCII)
_DECIMALS = re.compile(r"[.,]0+$", re.ASCII)


def is_long(text: str) -> bool:
    """Whether a text may be a number that a spreadsheet shortens."""
    return len(text) > _EXACT and _number(text) is not None


def lost_digits(one: str, other: str) -> bool:
    """Whether one is the other as a program shortens it; both folded."""
    return _shortens(one, other) or _shortens(other, one)


def long_keys(text: str) -> set[str]:
    """What a long number and its shortened forms have in common; empty if it is none."""
    number = _number(text)
    if number is None or len(number) <= _EXACT:
        return set()
    return {_key(_rounded(number, _EXACT)), _key(number[:_EXACT].ljust(len(number), "0"))}


def short_key_of(text: str) -> tuple[str, int] | None:
    """The key of a number in scientific notation, and how many digits it has kept; None if it is none."""
    if not is_scientific(text):
        return None
    number, precision = _expanded(text)
    return _key(number), precision


def short_keys(text: str, precisions: Iterable[int]) -> Iterator[str]:
    """Keys of a number as it would be with so many digits."""
    number = _number(text)
    if number is not None:
        yield from (_key(_rounded(number, precision)) for precision in precisions if precision <= len(number))


def _shortens(short: str, number_text: str) -> bool:
    number = _number(number_text)
    if number is None:
        return False
    if is_scientific(short):
        value, precision = _expanded(short)
        return precision <= len(number) and value == _rounded(number, precision)

    digits = _number(short)
    if digits is None or len(number) <= _EXACT:
        return False
    ends = {_rounded(number, most) for most in _KEPT} | {number[:most].ljust(len(number), "0") for most in _KEPT}

    return digits != number and (digits in ends or digits == str(int(float(number))))


def _number(text: str) -> str | None:
    """The digits of a whole number, without zeros in front; those of `12e5` written out."""
    text = written_out(text) or text
    if len(text) > _LONGEST or _NUMBER.fullmatch(text) is None:
        return None
    return re.sub(r"\D", "", _DECIMALS.sub("", text)).lstrip("0") or None


def _expanded(text: str) -> tuple[str, int]:
    """A number in scientific notation written out, and how many digits it has kept."""
    match = _PARTS.fullmatch(text.lower())
    if match is None:
        return "", 0
    whole = match[1]
    fraction = match[2] or ""
    digits = (whole + fraction).lstrip("0")
    length = len(whole) + int(match[3])

    return digits.ljust(length, "0"), len(digits)


def _rounded(number: str, precision: int) -> str:
    """A number with so many digits that count, rounded half up."""
    if precision >= len(number):
        return number
    unit = 10 ** (len(number) - precision)
    return str((int(number) + unit // 2) // unit * unit)


def _key(number: str) -> str:
    return f"number {number}"
