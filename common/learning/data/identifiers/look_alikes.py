"""Identifiers that look alike but are not equal, e.g. after a spreadsheet, a wrong encoding or a typing error.

Looking alike never counts as a match: callers ask a person. All functions are pure; `alike` is symmetric.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

from common.learning.data.identifiers.affixes import LEAST_DIGITS, MOST_LETTERS, bare_numbers, lost_affixes
from common.learning.data.identifiers.encodings import misreadings, repaired
from common.learning.data.identifiers.identifiers import is_scientific
from common.learning.data.identifiers.lost_digits import is_long, long_keys, lost_digits, short_key_of, short_keys
from common.learning.data.identifiers.spreadsheets import MONTH_NAMES, spreadsheet_values

_LABELS = "mrn|mr|pid|patid|patientid|patienten|patient|pat|subject|id|nr|no|urn|uuid"
# Letters and a number, without a label, a month, or letters that may be read as digits or as an exponent.
_PLAIN = re.compile(r"([A-Za-z]{1,8})(\d{1,15})", re.ASCII)
_SPECIAL = re.compile(rf"{_LABELS}|{MONTH_NAMES}")
_LABEL = re.compile(rf"(?:[\W_]*(?:{_LABELS})(?:[\W_]+(?=\w)|(?=\d)))+")
_DECIMALS = re.compile(r"([\d.,' ]*\d)[.,]0+", re.ASCII)
# In front of the first number between two separators; within a UUID or a hash zeros are digits like others.
_ZEROS = re.compile(r"(?<![^\W_])([^\W\d_]*)0+(?=\d)")
_SEPARATORS = re.compile(r"[\W_]+")
_SEPARATORS_BUT_MARKS = re.compile(r"[^\w?]+|_+")
_PARTS = re.compile(r"[,;/|&+()\s]+")
_MOST_PARTS = 20
_LOST = re.compile(r"[^\x00-\x7f?]|\?")
_READ_AS_DIGITS = str.maketrans("oil", "011")
_REMARK = re.compile(r"(.*[^\W_])\s*[(\[{].+[)\]}]")
_TYPED_IN_NUMBERS = re.compile(r"(?<=\d)[oil]+")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
# Cyrillic and Greek letters that look like Latin ones, and Latin ones that do not decompose; in lower case.
_TWINS = {
    **dict(zip(map(ord, "авекмнорстухіѕј"), "abekmhopctyxisj", strict=True)),
    **dict(zip(map(ord, "αβεζηικμνορτυχ"), "abezhikmnoptyx", strict=True)),
    **{ord("ø"): "o", ord("ł"): "l", ord("đ"): "d", ord("ð"): "d", ord("ı"): "i"},
    **{ord("æ"): "ae", ord("œ"): "oe", ord("þ"): "th"},
}


class LookAlikes:
    """Find the identifiers that a text looks like: built once for a cohort, with look-ups in constant time."""

    def __init__(self, identifiers: Iterable[str]) -> None:
        self._by_key: dict[str, str | list[str]] = {}
        self._precisions = set[int]()
        """Numbers of digits kept by identifiers in scientific notation."""
        self._all = tuple(identifiers)

        for identifier in self._all:
            for key in _keys(identifier):
                self._add(key, identifier)
            if (short := short_key_of(identifier)) is not None:
                key, precision = short
                self._add(key, identifier)
                self._precisions.add(precision)

    def of(self, text: str) -> frozenset[str]:
        """Those that `text` looks like, or that are parts of it; never `text` itself."""
        return self._single(text) or self._parts(text)

    def _add(self, key: str, identifier: str) -> None:
        # Most keys have one identifier, and a list for each would double the memory.
        there = self._by_key.setdefault(key, identifier)
        if isinstance(there, list):
            there.append(identifier)
        elif there is not identifier:
            self._by_key[key] = [there, identifier]

    def _under(self, keys: Iterable[str]) -> set[str]:
        matches = set[str]()
        for key in keys:
            there = self._by_key.get(key)
            if there is not None:
                matches.update([there] if isinstance(there, str) else there)

        return matches

    def _single(self, text: str) -> frozenset[str]:
        if is_scientific(text):
            return frozenset(other for other in self._all if alike(text, other))
        keys = _keys(text) if text.isascii() else _keys(text) | _misread_keys(text)
        if self._precisions:
            keys.update(short_keys(_folded(text), self._precisions))
        return frozenset(other for other in self._under(keys) if alike(text, other))

    def _parts(self, text: str) -> frozenset[str]:
        """Of a cell with several identifiers, or one with a remark: every part that holds a digit must be known."""
        parts = [part for part in _PARTS.split(text) if any(map(str.isdigit, part))]
        if not parts or len(parts) > _MOST_PARTS or parts == [text]:
            return frozenset()
        groups = []
        for part in parts:
            near = {other for other in self._under(_keys(part)) if part == other or alike(part, other)}
            if not near:
                return frozenset()
            groups.append(near)

        return frozenset[str]().union(*groups)


def alike(one: str, other: str) -> bool:
    """Whether a person may take two identifiers that are not equal for the same."""
    if one == other:
        return False
    readings = [*_readings(other)]
    if any(_match(a, b) or lost_affixes(a, b) for a in _readings(one) for b in readings):
        return True
    return lost_digits(_folded(one), _folded(other)) or _lost_letters(one, other) or _misread(one, other)


def _keys(text: str) -> set[str]:
    """Under which an identifier is found: two that are alike share one, but for misread letters."""
    if text.isascii() and text.isdigit():
        keys = {text, text.lstrip("0") or "0"}
        return keys | long_keys(text) if is_long(text) else keys
    if (plain := _PLAIN.fullmatch(text)) is not None and not _SPECIAL.search(text.lower()):
        return _plain_keys(plain[1].lower(), plain[2])

    keys = set[str]()
    for reading in _readings(text):
        bare = _joined(reading)
        keys |= {_without_zeros(bare), _joined(_without_zeros(reading)), bare.translate(_READ_AS_DIGITS)}
        keys |= bare_numbers(reading)

    if is_long(text):
        keys |= long_keys(_folded(text))
    if "?" in text or not text.isascii():
        keys |= _lossy(text)
    keys.discard("")

    return keys


def _plain_keys(letters: str, digits: str) -> set[str]:
    """The same for the usual form of a number, which a national register has a million of."""
    number = digits.lstrip("0") or "0"
    keys = {f"{letters}{number}", f"{letters}{digits}".translate(_READ_AS_DIGITS)}
    return keys | {number} if len(digits) >= LEAST_DIGITS and len(letters) <= MOST_LETTERS else keys


def _misread_keys(text: str) -> set[str]:
    return set[str]().union(*map(_keys, misreadings(text)))


def _readings(text: str) -> Iterator[str]:
    """What a text may mean: as it stands, and without what is often added; in lower case, without accents."""
    if text.isascii() and text.isdigit():
        yield text
        return

    for form in _foldings(text):
        yield form
        if (decimals := _DECIMALS.fullmatch(form)) is not None:
            yield decimals[1]
        if (label := _LABEL.match(form)) is not None:
            yield form[label.end() :]
        if "|" in form:
            yield form.rpartition("|")[2].strip()  # FHIR's system|value
        if "^" in form:
            yield form.partition("^")[0].strip()  # HL7 v2's CX
        if (remark := _REMARK.fullmatch(form)) is not None:
            yield remark[1]
        if (as_number := _TYPED_IN_NUMBERS.sub(_as_digits, form)) != form:
            yield as_number
        yield from spreadsheet_values(form)


def _as_digits(letters: re.Match[str]) -> str:
    return letters[0].translate(_READ_AS_DIGITS)


def _foldings(text: str) -> Iterator[str]:
    yield _folded(text)
    if text.isascii():
        if "&" not in text and "%" not in text:
            return
    else:
        base = unicodedata.normalize("NFC", text).casefold()
        if (spelling := base.translate(_UMLAUTS)) != base:
            yield _folded(spelling)
        yield from map(_folded, repaired(text))

    if (plain_text := unquote(html.unescape(text))) != text:
        yield _folded(plain_text)


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold()).translate(_TWINS)
    return "".join(map(_plain, letters))


def _plain(letter: str) -> str:
    if unicodedata.category(letter) in ("Mn", "Cf") or letter in "\u3164\u115f\u1160":
        return ""
    return _digit(letter)


def _match(one: str, other: str) -> bool:
    """Whether two readings are the same but for zeros in front of numbers, separators, and letters read as digits."""
    return (
        _equal_but_for_separators(_without_zeros(one), _without_zeros(other))
        or _equal_without_separators(one, other)
        or (
            any(map(str.isdigit, one + other))
            and _equal_but_for_separators(one.translate(_READ_AS_DIGITS), other.translate(_READ_AS_DIGITS))
        )
    )


def _without_zeros(text: str) -> str:
    return _ZEROS.sub(r"\1", text) if "0" in text else text


def _equal_but_for_separators(one: str, other: str) -> bool:
    """Separators may be others or lacking, but not elsewhere: `12-3` is not `1-23`."""
    parts = _SEPARATORS.split(one.strip())
    others = _SEPARATORS.split(other.strip())
    if not (letters := "".join(parts)) or letters != "".join(others):
        return False
    places = _places(parts)
    other_places = _places(others)

    return places <= other_places or other_places <= places


def _equal_without_separators(one: str, other: str) -> bool:
    """One was written without separators, so that zeros in the middle of the other were kept."""
    one_bare = _joined(one)
    other_bare = _joined(other)
    bare = one_bare == one or other_bare == other

    return bare and one_bare != "" and _without_zeros(one_bare) == _without_zeros(other_bare)


def _places(parts: list[str]) -> set[int]:
    places = set[int]()
    place = 0
    for part in parts[:-1]:
        place += len(part)
        places.add(place)

    return places - {0, place + len(parts[-1])}


def _joined(text: str) -> str:
    return _SEPARATORS.sub("", text)


def _lost_letters(one: str, other: str) -> bool:
    """Whether question marks in one stand where the other has letters that an encoding lacks."""
    if ("?" in one) == ("?" in other):
        return False
    return any(any(map(str.isalnum, lossy)) for lossy in _lossy(one) & _lossy(other))


def _lossy(text: str) -> set[str]:
    """Without separators, and with one question mark for all signs in a row that ASCII lacks.

    Letters with accents are one such sign, or a letter and one.
    """
    digits = "".join(_digit(sign) for sign in text)
    forms = {_LOST.sub("?", unicodedata.normalize(form, digits).lower()) for form in ("NFC", "NFD")}
    return {_without_zeros(re.sub(r"\?+", "?", _SEPARATORS_BUT_MARKS.sub("", one))) for one in forms}


def _digit(sign: str) -> str:
    digit = None if sign.isascii() else unicodedata.digit(sign, None)
    return sign if digit is None else str(digit)


def _misread(one: str, other: str) -> bool:
    if one.isascii() or other.isascii():
        return False
    return any(_letters(wrong) == _letters(b) for a, b in ((one, other), (other, one)) for wrong in misreadings(a))


def _letters(text: str) -> str:
    """With accents and case: another encoding turns one letter into another, and not into all that resemble it."""
    return _joined(unicodedata.normalize("NFC", text))
