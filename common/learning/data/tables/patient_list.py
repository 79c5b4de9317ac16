"""Lists of patients: a CSV with a column of identifiers, or one identifier a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from common.errors import ManifestError
from common.learning.data.identifiers.identifiers import PREFERRED_COLUMNS, heading_key, is_heading
from common.learning.data.tables.separators import Records, has_header, records_of, several_in_a_row
from common.learning.data.tables.table import Problems, check_lengths
from common.learning.data.tables.table_text import MOST_UNPACKED, decoded, read_bytes

IsPatient = Callable[[str], bool]
_BETWEEN = " \t,;"
_ONE_EACH = "give one id a line, or a CSV with a column patient_id or subject_id"


def nobody(_: str) -> bool:
    """Where no cohort is known."""
    return False


def read_patient_list(path: Path, is_patient: IsPatient = nobody) -> tuple[str, ...]:
    """Read a list of patients from a file; see `parse_patient_list`."""
    return parse_patient_list(read_bytes(path), str(path), is_patient)


def parse_patient_list(
    content: bytes, source: str, is_patient: IsPatient = nobody, *, most: int = MOST_UNPACKED
) -> tuple[str, ...]:
    """Read the patients of a list in normal form, in its order, each once.

    A heading such as `patient_id`, `Patienten-ID` or `MRN` names the column. Without one every line is an identifier.

    Args:
        content: of the file.
        source: names it in an error.
        is_patient: whether a text is, or looks like, an identifier of the cohort: no heading may be one.
        most: bytes of a compressed file's content.

    Raises:
        ManifestError: it names nobody, cannot be read without guessing, or has rows without a valid identifier.
    """
    text = decoded(content, source, lambda text: has_header(text, _has_column), most=most)
    return parse_patients(text, source, is_patient)


def parse_patients(text: str, source: str, is_patient: IsPatient = nobody) -> tuple[str, ...]:
    """As `parse_patient_list`, of a text."""
    records = records_of(text, source, _has_column)
    if not records.rows:
        raise ManifestError("the list names no patient", where=source, remedy="give one id a line")
    columns = _columns(records.rows[0])
    if not columns:
        return _without_heading(text, source, is_patient)
    place = f"{source} row {records.lines[0]}"
    if len(columns) > 1:
        raise ManifestError(
            f"{len(columns)} columns that may hold the patients", where=place, remedy="name one of them patient_id"
        )

    (column,) = columns
    heading = records.rows[0][column]
    # A first line that is a patient would be lost if it were taken for a heading.
    if is_patient(heading):
        problem = "the heading is, or looks like, an identifier of the cohort"
        raise ManifestError(problem, where=place, remedy="write patient_id into the first line")

    if not records.rows[1:]:
        raise ManifestError("no rows below the header", where=source, remedy="add a row per patient")
    records = _without_empty_ends(records)
    if len(records.rows[0]) == 1:
        # A single column may hold several values that another sign separates.
        _check_one_each(text, source, records.separator)
    check_lengths(source, records)

    return _identifiers(records, column, heading, source)


def parse_stated(content: bytes, source: str, columns: Sequence[str], *, most: int = MOST_UNPACKED) -> dict[str, str]:
    """What a list says in further columns about all its patients, by column; what it does not say is left out.

    Raises:
        ManifestError: a column is there twice, or says different things of different patients.
    """
    text = decoded(content, source, lambda text: has_header(text, _has_column), most=most)
    records = records_of(text, source, _has_column)
    if not records.rows or not _columns(records.rows[0]):
        return {}
    header = [heading_key(name) for name in records.rows[0]]

    statements = {}
    for column in columns:
        if (key := heading_key(column)) in header:
            statements[column] = _same_in_all_rows(records, header, key, column, source)

    return {column: value for column, value in statements.items() if value}


def _same_in_all_rows(records: Records, header: Sequence[str], key: str, column: str, source: str) -> str:
    if header.count(key) > 1:
        place = f"{source} row {records.lines[0]}"
        raise ManifestError(f"column {column} is there twice", where=place, remedy="keep one of them")
    index = header.index(key)
    first: str | None = None

    for line, row in zip(records.lines[1:], records.rows[1:], strict=True):
        value = row[index] if index < len(row) else ""
        if row == records.rows[0]:
            continue  # lists that were put together repeat it
        if first is not None and value != first:
            remedy = "make a list for each"
            raise ManifestError(f"another {column} than in the rows above", where=f"{source} row {line}", remedy=remedy)
        first = value

    return first or ""


def _without_heading(text: str, source: str, is_patient: IsPatient) -> tuple[str, ...]:
    _check_one_each(text, source)
    records = records_of(text, source, lambda _: False, ",;\t")

    for line, row in zip(records.lines, records.rows, strict=True):
        value = _only(row)
        if is_heading(value) and not is_patient(value):
            remedy = "put it into the first line that is not empty"
            raise ManifestError("a heading below other lines", where=f"{source} row {line}", remedy=remedy)

    return _identifiers(records, None, "identifier", source)


def _identifiers(records: Records, column: int | None, heading: str, source: str) -> tuple[str, ...]:
    problems = Problems()
    identifiers = dict[str, None]()
    first = 0 if column is None else 1

    for line, row in zip(records.lines[first:], records.rows[first:], strict=True):
        place = f"{source} row {line}"
        value = _only(row) if column is None or len(row) == 1 else row[column]

        if not value:
            problems.add(ManifestError(f"empty {heading}", where=place, remedy="fill it in"))
        elif column is None or value != heading:  # lists that were put together repeat it
            identifiers[problems.identifier(value, heading, place)] = None

    problems.raise_any()
    if not identifiers:
        raise ManifestError("the list names no patient", where=source, remedy="give one id a line")
    return tuple(identifiers)


def _only(row: Sequence[str]) -> str:
    """The value of a row that has one."""
    return next((value for value in row if value), "").strip(_BETWEEN)


def _check_one_each(text: str, source: str, separator: str = "") -> None:
    several = several_in_a_row(text, separator)
    if several is not None:
        line, between = several
        raise ManifestError(
            f"several values in a list of patients, separated by {between}",
            where=f"{source} row {line}",
            remedy=_ONE_EACH,
        )


def _has_column(row: Sequence[str]) -> bool:
    return bool(_columns(row))


def _columns(row: Sequence[str]) -> list[int]:
    """Which columns of a header may hold the patients: one where it is clear."""
    alone = sum(map(bool, row)) == 1
    keys = [heading_key(name) for name in row]
    # A column of our own name decides, also where others may hold patients as well.
    for column in PREFERRED_COLUMNS:
        if keys.count(column) == 1:
            return [keys.index(column)]

    return [number for number, name in enumerate(row) if name and is_heading(name, alone=alone)]


def _without_empty_ends(records: Records) -> Records:
    """Without the separators that some programs put behind the last value."""
    rows = [[*row] for row in records.rows]
    width = len(rows[0])
    for row in rows:
        while len(row) > width and not row[-1]:
            row.pop()

    return Records(records.separator, records.lines, tuple(map(tuple, rows)))
