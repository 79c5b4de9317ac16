"""What a patient's identifier is: its normal form, how it is read from a cell of a table, and what is refused.

Two identifiers are the same when their normal forms are equal. `look_alikes.py` says which ones only look so.
"""

from __future__ import annotations

import re
import unicodedata

from common.errors import InputError

LONGEST = 200
"""Characters; also in UTF-8 an identifier must fit into the column that keeps it sealed."""
_LONGEST_BYTES = 640

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Takes no room or shows nothing, and is no white space to Python.
_INVISIBLE = frozenset(
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064"
    "\u3164\ufe0e\ufe0f\ufeff\uffa0"
)
# As spreadsheets, pandas and JavaScript write a number that is too long; `12E5` and `12E-3` may be identifiers.
_SCIENTIFIC = re.compile(r"[+-]?\d+(?:[.,]\d+[eE]\+?|[eE]\+)\d{1,3}", re.ASCII)
_FORMULA = re.compile(r"""=\s*(?:T\(\s*)?"((?:[^"]|"")*)"\s*\)?|=\s*(\d+)""", re.ASCII)
# What spreadsheets and other programs write where a value was lost.
_ERROR_VALUE = re.compile(
    r"#(?:N/A|NV|REF!|BEZUG!|VALUE!|WERT!|NAME\?|DIV/0!|NULL!|NUM!|ZAHL!|SPILL!|CALC!|#+)|null|nan|none|n/a|na|<na>",
    re.ASCII | re.IGNORECASE,
)
# An apostrophe that keeps a spreadsheet from taking digits for a number, or a sign for a formula.
_TEXT_MARK = re.compile(r"['\u2019](?=[\d=+\-@])")

_HEADINGS = frozenset(
    (
        "patient", "patients", "patientid", "patientids", "patientidentifier", "patientnumber", "patientno", "patid",
        "patnr", "patientenid", "patientennummer", "patientennr", "patientenkennung", "patientin", "subject",
        "subjectid", "subjectidentifier", "mrn", "medicalrecordnumber", "medicalrecordno", "identifier", "id", "ids",
        "pid", "pseudonym", "recordnumber", "krankenaktennummer", "fallnummer", "kennung", "personid",
    )
)  # fmt: skip
PREFERRED_COLUMNS = ("patientid", "subjectid")
"""Of several columns that could hold identifiers, these are meant; as `heading_key` gives them."""
# Headings of a list with one column; beside others they may mean something else, such as the number of the row.
_AMBIGUOUS_COLUMNS = frozenset({"id", "ids", "identifier", "patient", "patients", "subject", "patientin", "fallnummer"})


class IdentifierError(InputError):
    """A text is not an identifier; the message does not quote it."""


def normal(text: str, *, shortened: bool = False) -> str:
    """The normal form: NFC, without white space and invisible characters at either end.

    Args:
        text: as it came in.
        shortened: whether scientific notation is taken, where a patient who may be meant has to be found.

    Raises:
        IdentifierError: empty, too long, in scientific notation, or with a character that no identifier has.
    """
    if text.isascii() and text.isalnum() and len(text) <= LONGEST:
        return text  # the usual case, which a national register has a million of
    bare = _trimmed(text)
    if not bare:
        raise IdentifierError("an empty identifier", remedy="fill it in, or remove the row")
    if bare.isascii() and bare.isprintable():
        identifier = bare
    else:
        _check_characters(bare)
        identifier = unicodedata.normalize("NFC", bare)

    if len(identifier) > LONGEST or len(identifier.encode()) > _LONGEST_BYTES:
        raise IdentifierError(f"an identifier of more than {LONGEST} characters", remedy="check the file")
    if not shortened and is_scientific(identifier):
        raise IdentifierError(
            "an identifier in scientific notation, which has lost its digits",
            remedy="export it again with the column as text",
        )

    return identifier


def from_cell(text: str) -> str:
    """The normal form of what stands in a table or text file, without the marks that spreadsheets and quoting add.

    Quotes around it, `="000008"` and an apostrophe before digits or a sign are such marks.

    Raises:
        IdentifierError: see `normal`.
    """
    value = _trimmed(text)
    # Marks may be nested, e.g. a formula in quotes.
    while (bare := _trimmed(_without_marks(value))) != value:
        value = bare
    if _ERROR_VALUE.fullmatch(value) is not None:
        raise IdentifierError("a mark of a missing value, not an identifier", remedy="fill it in, or remove the row")
    return normal(value)


def is_scientific(text: str) -> bool:
    """Whether it is a long number as a spreadsheet shortens it, such as `1.2346E+11`."""
    return _SCIENTIFIC.fullmatch(text) is not None


def heading_key(text: str) -> str:
    """A column's name without case, spaces and punctuation, so that `Patient ID` and `patient_id` are one."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in plain if character.isalnum())


def is_heading(text: str, *, alone: bool = True) -> bool:
    """Whether a text is a usual heading of identifiers: of a list with one column, or beside other columns."""
    key = heading_key(text)
    return key in _HEADINGS and (alone or key not in _AMBIGUOUS_COLUMNS)


def _trimmed(text: str) -> str:
    start = 0
    end = len(text)
    while start < end and (text[start].isspace() or text[start] in _INVISIBLE):
        start += 1
    while end > start and (text[end - 1].isspace() or text[end - 1] in _INVISIBLE):
        end -= 1
    return text[start:end]


def _without_marks(text: str) -> str:
    formula = _FORMULA.fullmatch(text)
    if formula is not None:
        string, number = formula.groups()
        return str(number) if string is None else str(string).replace('""', '"')

    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1].replace('""', '"')
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1]
    mark = _TEXT_MARK.match(text)

    return text if mark is None else text[mark.end() :]


def _check_characters(text: str) -> None:
    for character in text:
        category = unicodedata.category(character)
        problem = ""

        if character in _BIDI:
            problem = "a control character of writing direction"
        elif category in ("Cc", "Zl", "Zp"):
            problem = "a control character"
        elif character == "\ufffd" or category == "Cs":
            problem = "a character that was lost in another encoding"
        elif category in ("Co", "Cn"):
            problem = "a character that Unicode does not define"

        if problem:
            raise IdentifierError(f"an identifier with {problem}", remedy="export the file again")
