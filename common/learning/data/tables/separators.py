"""Which sign stands between the columns of a table, and the records that it makes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from common.errors import ManifestError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""With the names that messages give them."""
_STATED = re.compile(r'"?sep=(.)"?[,;\t ]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
_INVISIBLE = "\ufeff\u200b\u2060"


@dataclass(frozen=True, slots=True)
class Records:
    """Rows of a file that are not blank, with the 1-based lines they begin on; values are stripped."""

    separator: str
    lines: tuple[int, ...]
    rows: tuple[tuple[str, ...], ...] = field(repr=False)

    @property
    def between(self) -> str:
        """How a message names the separator."""
        return SEPARATORS.get(self.separator, f"'{self.separator}'")


def records_of(
    text: str, source: str, is_header: Callable[[Sequence[str]], bool], separators: Iterable[str] = tuple(SEPARATORS)
) -> Records:
    """Read CSV whose separator its first line states (`sep=;`), or that makes a header that is known.

    Where several do, the one with most columns counts; where none does, the one that stands in the first row.

    Raises:
        ManifestError: it is not CSV.
    """
    text = text.removeprefix("\ufeff")
    statement = _STATED.match(text)
    if statement is not None:
        return _read(text[statement.end() :], source, statement[1], 1)
    heads = {separator: _first_row(text, separator) for separator in separators}
    candidates = [separator for separator, head in heads.items() if is_header(head)]

    # Among several that would do, the one that makes most columns.
    return _read(text, source, max(candidates or heads, key=lambda separator: len(heads[separator])), 0)


def has_header(text: str, is_header: Callable[[Sequence[str]], bool]) -> bool:
    """Whether a text begins with a header that is known, whatever its separator."""
    statement = _STATED.match(text)
    if statement is not None:
        return is_header(_first_row(text[statement.end() :], statement[1]))
    return any(is_header(_first_row(text, separator)) for separator in SEPARATORS)


def several_in_a_row(text: str, apart_from: str = "") -> tuple[int, str] | None:
    """The first line with several values, and the name of what is between them; None if every line has one at most."""
    for separator, name in SEPARATORS.items():
        if separator in text and separator not in (apart_from, "|"):
            records = _read(text, "", separator, 0, strict=False)
            for line, row in zip(records.lines, records.rows, strict=True):
                if sum(map(bool, row)) > 1:
                    return line, name

    return None


def _first_row(text: str, separator: str) -> tuple[str, ...]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        return next((_cells(row) for row in reader if any(map(str.strip, row))), ())
    except csv.Error:
        return ()


def _read(text: str, source: str, separator: str, skipped: int, *, strict: bool = True) -> Records:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=strict)
    lines = []
    rows = []
    start = skipped + 1

    try:
        for record in reader:
            if any(map(str.strip, record)):
                rows.append(_cells(record))
                lines.append(start)

            # A quoted value may span lines: rows are named by the line on which they begin.
            start = reader.line_num + skipped + 1
    except csv.Error as err:
        where = f"{source} row {start}"
        raise ManifestError(f"not valid CSV: {err}", where=where, remedy="check the quotes") from None

    return Records(separator, tuple(lines), tuple(rows))


def _cells(record: Sequence[str]) -> tuple[str, ...]:
    return tuple(value.strip().strip(_INVISIBLE).strip() for value in record)
