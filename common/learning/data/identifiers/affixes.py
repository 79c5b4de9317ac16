"""Numbers that lost the letters around them or their check digit, such as `12345` for `M12345-6`. Pure.

One text must lack what the other has: `M000123` and `F000123` are two patients, and so are `12345-6` and `12345-7`.
"""

from __future__ import annotations

import re

_SEPARATORS = re.compile(r"[\W_]+")
_LETTERS = r"[^\W\d_]"
MOST_LETTERS = 4
LEAST_DIGITS = 3
_AFFIXED = re.compile(rf"({_LETTERS}{{0,{MOST_LETTERS}}})(\d{{{LEAST_DIGITS},}})({_LETTERS}{{0,2}})")
"""Without separators. Longer runs of letters are names, and with fewer digits too many numbers would look alike."""
_CHECKED = re.compile(rf"({_LETTERS}{{0,4}}[\W_]*\d{{5,}}{_LETTERS}{{0,2}})[-/. ]([\dx])")


def bare_numbers(folded: str) -> set[str]:
    """What is left of a text without letters and check digit: two that `lost_affixes` pairs share one."""
    numbers = {_key(_number(folded))}
    match = _CHECKED.fullmatch(folded)
    if match is not None:
        numbers.add(_key(_number(match[1])))
        numbers.add(_bare(match[1]))

    return numbers - {""}


def lost_affixes(one: str, other: str) -> bool:
    """Whether one is the other without letters in front or behind, without check digit, or without both."""
    return _lacks(one, other) or _lacks(other, one)


def _lacks(short: str, whole: str) -> bool:
    number = _bare(short)
    if number.isdigit() and _has_letters(whole) and _number(whole) == number:
        return True
    match = _CHECKED.fullmatch(whole)
    if match is None:
        return False
    return number == _bare(match[1]) or (number.isdigit() and number == _number(match[1]))


def _has_letters(folded: str) -> bool:
    return any(map(str.isalpha, folded))


def _bare(folded: str) -> str:
    """Without separators, and without zeros in front of the number."""
    compact = _SEPARATORS.sub("", folded)
    match = _AFFIXED.fullmatch(compact)
    return f"{match[1]}{_key(match[2])}{match[3]}" if match is not None else _key(compact)


def _number(folded: str) -> str:
    """The number between letters, without zeros in front; empty if there is none."""
    match = _AFFIXED.fullmatch(_SEPARATORS.sub("", folded))
    return "" if match is None else _key(match[2])


def _key(number: str) -> str:
    return number.lstrip("0") or number[:1]
