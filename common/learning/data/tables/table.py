"""Reading tables (CSV) row by row, and collecting what is wrong with their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import InputError, ManifestError
from common.learning.data.identifiers.identifiers import IdentifierError, from_cell
from common.learning.data.tables.separators import Records, has_header, records_of
from common.learning.data.tables.table_text import decoded, read_bytes

MOST_SHOWN = 20
"""Bad rows that a message lists."""


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file with one header row. Values are stripped; `lines` are the 1-based file lines the rows begin on."""

    path: Path = field(repr=False)
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...] = field(repr=False)
    lines: tuple[int, ...] = field(repr=False)

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, str]]]:
        return iter(zip(self.lines, self.rows, strict=True))

    def place(self, line: int) -> str:
        """How a message points at a row."""
        return f"{self.path} row {line}"


class Problems:
    """Collects what is wrong with the rows of a table, to be raised together."""

    def __init__(self) -> None:
        self._by_place: dict[str, InputError] = {}

    def add(self, problem: InputError) -> None:
        """Note a problem; of one place only the first counts."""
        self._by_place.setdefault(problem.where, problem)

    def identifier(self, text: str, column: str, place: str) -> str:
        """The normal form of a cell that holds an identifier; one that is not valid is a problem and kept as it is."""
        # An empty cell is a problem of its own, which the caller reports.
        if not text:
            return text
        try:
            return from_cell(text)
        except IdentifierError as err:
            self.add(ManifestError(f"{column}: {err.problem}", where=place, remedy=err.remedy))
            return text

    def raise_any(self) -> None:
        """Raise the first problem, saying how many more rows have one; the error lists them up to `MOST_SHOWN`."""
        if not self._by_place:
            return
        first, *others = self._by_place.values()
        more = f" and {len(others)} more row{'s' if len(others) > 1 else ''}" if others else ""
        error = type(first)(first.problem + more, where=first.where, remedy=first.remedy)
        error.others = tuple(others[: MOST_SHOWN - 1])
        error.unlisted = max(0, len(others) + 1 - MOST_SHOWN)
        raise error


def read_table(path: Path, required: Sequence[str]) -> Table:
    """Read a CSV file whose header must hold `required`; blank lines are skipped.

    Columns may be separated by commas, semicolons, tabs or vertical bars, and the file compressed by gzip; see
    `common.learning.data.tables.table_text` for its encoding.

    Raises:
        ManifestError: the file is missing, empty, no text that can be read without guessing or not CSV, a column is
            missing or named twice, or a row has more or fewer values than the header.
    """
    source = str(path)
    is_header = set(required).issubset
    text = decoded(read_bytes(path), source, lambda text: has_header(text, is_header))
    records = records_of(text, source, is_header)
    if not records.rows:
        raise ManifestError("the file is empty", where=source, remedy=f"needs the columns {', '.join(required)}")
    header = records.rows[0]
    rows = records.rows[1:]
    lines = records.lines[1:]
    _check_header(source, records, required)
    if not rows:
        raise ManifestError("no rows below the header", where=source, remedy="add a row per image")
    check_lengths(source, records)

    return Table(path, header, tuple(dict(zip(header, row, strict=True)) for row in rows), lines)


def check_lengths(source: str, records: Records) -> None:
    """Raise a `ManifestError` about all rows that have more or fewer values than the first one."""
    problems = Problems()
    columns = len(records.rows[0])

    for line, row in zip(records.lines[1:], records.rows[1:], strict=True):
        if len(row) != columns:
            problems.add(
                ManifestError(
                    f"{len(row)} values for {columns} columns",
                    where=f"{source} row {line}",
                    remedy=f"columns are separated by {records.between}: quote values that hold one or a line break",
                )
            )

    problems.raise_any()


def _check_header(source: str, records: Records, required: Sequence[str]) -> None:
    header = records.rows[0]
    place = f"{source} row {records.lines[0]}"
    missing = [name for name in required if name not in header]

    if missing:
        plural = "s" if len(missing) > 1 else ""
        read_as = f"its columns are separated by {records.between}" if len(header) > 1 else _apart(header[0], required)
        raise ManifestError(
            f"missing column{plural} {', '.join(missing)}",
            where=place,
            remedy=f"the header needs {', '.join(required)}; {read_as}",
        )

    twice = [name for name in required if header.count(name) > 1]
    if twice:
        raise ManifestError(f"column {twice[0]} is there twice", where=place, remedy="keep one of them")


def _apart(header: str, required: Sequence[str]) -> str:
    """What stands between the names of a header that makes one column."""
    names = [name for name in required if name in header]
    rest = header
    for name in sorted(names, key=len, reverse=True):
        rest = rest.replace(name, "\0")
    signs = set(rest.split("\0")[1:-1])
    if len(names) > 1 and len(signs) == 1:
        return f"'{signs.pop()}' is between them: save it with commas"
    return "it has one column: separate columns by commas"
