"""Reading tables (CSV) row by row, and collecting what is wrong with their rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import InputError, ManifestError


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
        self._found: dict[str, InputError] = {}

    def add(self, problem: InputError) -> None:
        """Note a problem; of one place only the first counts."""
        self._found.setdefault(problem.where, problem)

    def raise_any(self) -> None:
        """Raise the first problem, saying how many more rows have one."""
        if not self._found:
            return
        first, *others = self._found.values()
        more = f" and {len(others)} more row{'s' if len(others) > 1 else ''}" if others else ""
        raise type(first)(first.problem + more, where=first.where, remedy=first.remedy)


def read_text(path: Path) -> str:
    """Text of a UTF-8 file, with or without a byte order mark; raises a `ManifestError` that names the file."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ManifestError("no such file", where=str(path), remedy="check the path") from None
    except UnicodeDecodeError as err:
        row = err.object.count(b"\n", 0, err.start) + 1
        raise ManifestError("not UTF-8 text", where=f"{path} row {row}", remedy="save the file as UTF-8") from None
    except OSError as err:
        raise ManifestError(f"cannot be read: {err.strerror}", where=str(path), remedy="check the path") from None


def read_table(path: Path, required: Sequence[str]) -> Table:
    """Read a CSV file whose header must hold `required`; blank lines are skipped.

    Raises:
        ManifestError: the file is missing, empty, not UTF-8 or not CSV, a column is missing or named twice, or a row
            has more or fewer values than the header.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    lines: list[int] = []
    records: list[list[str]] = []
    start = 1
    try:
        for record in reader:
            if any(value.strip() for value in record):
                records.append([value.strip() for value in record])
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as err:
        raise ManifestError(f"not valid CSV: {err}", where=f"{path} row {start}", remedy="check the quotes") from None
    if not records:
        raise ManifestError("the file is empty", where=str(path), remedy=f"needs the columns {', '.join(required)}")
    header, rows = records[0], records[1:]
    _check_header(path, header, required)
    if not rows:
        raise ManifestError("no rows below the header", where=str(path), remedy="add a row per image")
    problems = Problems()
    for line, row in zip(lines[1:], rows, strict=True):
        if len(row) != len(header):
            problems.add(
                ManifestError(
                    f"{len(row)} values for {len(header)} columns",
                    where=f"{path} row {line}",
                    remedy="quote values that hold a comma or a line break",
                )
            )
    problems.raise_any()
    return Table(path, tuple(header), tuple(dict(zip(header, row, strict=True)) for row in rows), tuple(lines[1:]))


def _check_header(path: Path, header: Sequence[str], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in header]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise ManifestError(
            f"missing column{plural} {', '.join(missing)}",
            where=f"{path} row 1",
            remedy=f"the header needs {', '.join(required)}",
        )
    twice = [name for name in required if header.count(name) > 1]
    if twice:
        raise ManifestError(f"column {twice[0]} is there twice", where=f"{path} row 1", remedy="keep one of them")
