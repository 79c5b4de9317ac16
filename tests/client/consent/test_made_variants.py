"""Made variants of identifiers x cohorts: what a person would call the same patient is never closed as unknown, and no
other patient is taken for one who is known.

A variant is what a spreadsheet, an editor, an encoding or a typist makes of an identifier in a list. Each goes the way
of a real list: bytes are read, and the site is asked whom they name.
"""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.revocations.known import KnownPatients
from common.errors import InputError
from common.learning.data.identifiers.identifiers import IdentifierError, normal
from common.learning.data.tables.patient_list import parse_patient_list

COHORTS = {
    "zero-padded": [f"{n:06}" for n in (3, 4, 17, 120, 4711, 90210)],
    "mrn": [f"MRN-{n}" for n in (1, 2, 10, 11, 120, 4711)],
    "mrn-padded": [f"MRN{n:07}" for n in (1, 2, 10, 11, 120, 4711)],
    "uuid": [f"550e8400-e29b-41d4-a716-4466554400{n:02x}" for n in (0, 1, 10, 11, 170, 255)],
    "umlauts": ["M\u00fcller-1", "M\u00fcller-2", "Gr\u00f6\u00df-1", "\u00c4rzte-12", "Jos\u00e9 L\u00f3pez-3"],
    "decomposed": [unicodedata.normalize("NFD", name) for name in ("M\u00fcller-1", "Jos\u00e9-2")],
    "long digits": ["12345678901234567", "12345678901299999", "98765432109876543210", "123456789012345"],
    "cyrillic": ["\u0418\u0432\u0430\u043d\u043e\u0432-1", "\u041f\u0435\u0442\u0440\u043e\u0432-2"],
    "dotted": ["KH.2024.00017", "KH.2024.00018", "KH.2023.00017"],
}

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
Change = Callable[[str], str]


def _between(before: str, after: str) -> Change:
    return lambda text: before + text + after


def _replacing(old: str, new: str) -> Change:
    return lambda text: text.replace(old, new)


def _then(first: str, second: str) -> Change:
    return lambda text: CHANGES[second](CHANGES[first](text))


def _spreadsheet() -> Iterator[tuple[str, Change]]:
    yield "as it stands", lambda t: t
    yield "formula", lambda t: f'="{t}"'
    yield "formula T", lambda t: f'=T("{t}")'
    yield "zeros stripped", lambda t: re.sub(r"(?<!\d)0+(?=\d)", "", t)
    yield "one zero stripped", lambda t: re.sub(r"(?<!\d)0(?=\d)", "", t)
    yield "zero added", lambda t: re.sub(r"(?<!\d)(?=\d+$)", "0", t)
    yield "apostrophe", lambda t: f"'{t}"
    yield "typographic apostrophe", lambda t: f"\u2019{t}"
    yield "number with decimals", lambda t: f"{t}.0" if t.isdigit() else t
    yield "number with two decimals", lambda t: f"{int(t)}.00" if t.isdigit() else t
    yield "thousands apart by points", lambda t: f"{int(t):,}".replace(",", ".") if t.isdigit() else t
    yield "thousands apart by spaces", lambda t: f"{int(t):,}".replace(",", " ") if t.isdigit() else t
    yield "thousands apart by thin spaces", lambda t: f"{int(t):,}".replace(",", "\u202f") if t.isdigit() else t
    yield "thousands apart by apostrophes", lambda t: f"{int(t):,}".replace(",", "'") if t.isdigit() else t
    yield "fifteen digits kept", lambda t: t[:15] + "0" * (len(t) - 15) if t.isdigit() else t
    yield "as a double", lambda t: str(int(float(t))) if t.isdigit() and len(t) > 15 else t
    yield "as JavaScript has it", lambda t: _rounded(t, 17) if t.isdigit() and 17 < len(t) < 21 else t
    yield "scientific", lambda t: f"{float(t):.4E}" if t.isdigit() and len(t) > 11 else t
    yield "scientific of another program", lambda t: f"{float(t):.14e}" if t.isdigit() and len(t) > 15 else t
    yield "upper case", str.upper
    yield "lower case", str.lower
    yield "title", str.title


def _white_space() -> Iterator[tuple[str, Change]]:
    for name, sign in {
        "space": " ", "no-break space": "\u00a0", "tab": "\t", "thin space": "\u2009", "ideographic space": "\u3000",
        "zero-width space": "\u200b", "byte-order mark": "\ufeff", "word joiner": "\u2060", "narrow space": "\u202f",
    }.items():  # fmt: skip
        yield f"{name} before", _between(sign, "")
        yield f"{name} after", _between("", sign)
        yield f"{name} around", _between(sign * 2, sign * 2)

    yield "zero-width space inside", lambda t: f"{t[:2]}\u200b{t[2:]}"
    yield "soft hyphen inside", lambda t: f"{t[:2]}\u00ad{t[2:]}"
    yield "joiner inside", lambda t: f"{t[:2]}\u200d{t[2:]}"
    yield "space after the first hyphen", lambda t: t.replace("-", "- ", 1)
    yield "spaces around hyphens", lambda t: t.replace("-", " - ")


def _quotes() -> Iterator[tuple[str, Change]]:
    yield "quoted", lambda t: f'"{t}"'
    yield "single quotes", lambda t: f"'{t}'"
    yield "quoted formula", lambda t: '"=""' + t + '"""'

    for name, marks in {
        "typographic": "\u201c\u201d", "German": "\u201e\u201c", "French": "\u00ab\u00bb", "brackets": "[]",
        "round brackets": "()", "braces": "{}", "angles": "<>", "backticks": "``", "stars": "**",
    }.items():  # fmt: skip
        yield f"{name} quotes", _between(marks[0], marks[1])

    for label in ("MRN ", "MRN: ", "ID ", "ID:", "Patient ", "Patient-ID: ", "Nr. ", "#", "No. ", "PID-", "urn:uuid:"):
        yield f"label {label!r}", _between(label, "")
    yield "remark", lambda t: f"{t} (withdrawn)"
    yield "full stop", lambda t: f"{t}."
    yield "colon", lambda t: f"{t}:"


def _unicode() -> Iterator[tuple[str, Change]]:
    forms: tuple[Form, ...] = ("NFC", "NFD", "NFKC", "NFKD")
    for form in forms:
        yield form, partial(unicodedata.normalize, form)
    yield "fullwidth digits", lambda t: t.translate({ord("0") + n: 0xFF10 + n for n in range(10)})
    yield "Arabic digits", lambda t: t.translate({ord("0") + n: 0x0660 + n for n in range(10)})
    yield "Devanagari digits", lambda t: t.translate({ord("0") + n: 0x0966 + n for n in range(10)})
    yield "bold digits", lambda t: t.translate({ord("0") + n: 0x1D7CE + n for n in range(10)})
    yield "fullwidth", lambda t: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in t)

    for name, sign in {
        "non-breaking": "\u2011", "en": "\u2013", "em": "\u2014", "minus": "\u2212", "hyphen": "\u2010",
        "fullwidth": "\uff0d", "underscore": "_", "dot": ".", "slash": "/", "space": " ", "nothing": "",
        "no-break space": "\u00a0", "soft": "\u00ad", "figure": "\u2012", "colon": ":",
    }.items():  # fmt: skip
        yield f"{name} for hyphens", _replacing("-", sign)

    for name, sign in {"nothing": "", "hyphen": "-", "slash": "/", "underscore": "_", "space": " "}.items():
        yield f"{name} for points", _replacing(".", sign)
    yield "Cyrillic M", lambda t: t.replace("M", "\u041c")
    yield "Cyrillic H and P", lambda t: t.replace("H", "\u041d").replace("P", "\u0420")
    yield "Greek letters", lambda t: t.replace("M", "\u039c").replace("N", "\u039d").replace("K", "\u039a")
    yield "O for 0", lambda t: t.replace("0", "O", 1)
    yield "small l for 1", lambda t: re.sub("1(?!.*1)", "l", t)
    yield "ae oe ue", _spelled
    yield (
        "without accents",
        lambda t: "".join(c for c in unicodedata.normalize("NFD", t) if not unicodedata.combining(c)),
    )
    yield "sharp s", lambda t: t.replace("\u00df", "ss")
    yield "capital sharp s", lambda t: t.replace("\u00df", "\u1e9e")


def _encodings() -> Iterator[tuple[str, Change]]:
    for written, read in (
        ("utf-8", "cp1252"), ("utf-8", "latin-1"), ("utf-8", "mac-roman"), ("utf-8", "cp850"), ("utf-8", "cp437"),
        ("cp1252", "mac-roman"), ("mac-roman", "cp1252"), ("cp850", "cp1252"), ("cp1252", "cp850"),
        ("cp1252", "cp1250"),
        ("cp1251", "cp1252"), ("cp1252", "cp1251"), ("utf-8", "cp1250"), ("cp437", "latin-1"), ("utf-8", "iso8859-15"),
    ):  # fmt: skip
        yield f"{written} read as {read}", partial(_misread, written=written, read=read)

    yield "UTF-8 misread twice", lambda t: _misread(_misread(t, "utf-8", "cp1252"), "utf-8", "cp1252")
    yield "question marks", lambda t: t.encode("ascii", "replace").decode()
    yield "two question marks", lambda t: t.encode("ascii", "replace").decode().replace("?", "??")
    yield "HTML", lambda t: t.encode("ascii", "xmlcharrefreplace").decode()
    yield "percent signs", lambda t: "".join(c if c.isascii() else "".join(f"%{b:02X}" for b in c.encode()) for c in t)


def _files() -> Iterator[tuple[str, Callable[[str], bytes]]]:
    for name, (start, end) in {
        "heading": ("patient_id\n", "\n"), "CRLF": ("patient_id\r\n", "\r\n"), "CR": ("patient_id\r", "\r"),
        "German heading": ("Patienten-ID\n", "\n"), "MRN": ("MRN\n", "\n"), "PatientID": ("PatientID\n", "\n"),
        "semicolons": ("no;patient_id;note\n1;", ";x\n"), "tabs": ("no\tpatient_id\tnote\n1\t", "\tx\n"),
        "commas": ("no,patient_id,note\n1,", ",x\n"), "sep=": ("sep=;\nno;patient_id\n1;", "\n"),
        "sep=tab": ("sep=\t\nno\tPatient ID\n1\t", "\n"), "bars": ("no|patient_id\n1|", "\n"), "text": ("", "\n"),
        "no end": ("patient_id\n", ""), "blank lines": ("\n\npatient_id\n\n", "\n\n"),
        "trailing": ("patient_id;\n", ";\n"),
    }.items():  # fmt: skip
        yield name, partial(_file, start=start, end=end, encoding="utf-8")

    for encoding in ("utf-8-sig", "utf-16", "utf-32", "cp1252"):
        yield encoding, partial(_file, start="patient_id\n", end="\n", encoding=encoding)
    yield "gzip", lambda t: gzip.compress(f"patient_id\n{t}\n".encode(), mtime=0)


def _file(text: str, start: str, end: str, encoding: str) -> bytes:
    return f"{start}{text}{end}".encode(encoding, "replace")


def _rounded(text: str, digits: int) -> str:
    unit = 10 ** (len(text) - digits)
    return str((int(text) + unit // 2) // unit * unit)


def _spelled(text: str) -> str:
    spelled: dict[str, str | int | None] = {
        "\u00fc": "ue",
        "\u00f6": "oe",
        "\u00e4": "ae",
        "\u00c4": "Ae",
        "\u00df": "ss",
    }
    return unicodedata.normalize("NFC", text).translate(str.maketrans(spelled))


def _misread(text: str, written: str, read: str) -> str:
    try:
        return unicodedata.normalize("NFC", text).encode(written).decode(read)
    except UnicodeError:
        return text


CHANGES = dict([*_spreadsheet(), *_white_space(), *_quotes(), *_unicode(), *_encodings()])
FILES = dict(_files())
TWO = ("lower case", "zeros stripped", "NFD", "nothing for hyphens", "formula", "fullwidth digits", "question marks")
"""Of each a variant together with each of the others."""


def variants() -> Iterator[tuple[str, Change]]:
    yield from CHANGES.items()
    for first in TWO:
        for second in TWO:
            if first not in (second, "formula") and (first, second) != ("fullwidth digits", "question marks"):
                yield f"{first}, then {second}", _then(first, second)

    for name in ("quoted", "apostrophe", "label 'MRN '", "space around", "en for hyphens", "O for 0"):
        for second in ("zeros stripped", "lower case", "NFD"):
            yield f"{second}, then {name}", _then(second, name)


def outcome(site: KnownPatients, patient: str, content: bytes) -> str:
    """What becomes of a list of one patient: refused, doubtful, known, or unknown."""
    try:
        (identifier,) = parse_patient_list(content, "list", lambda text: site.named(text).is_known)
        named = site.named(identifier)
    except InputError:
        return "refused"

    if named.is_known:
        assert named.identifier == patient
        return "known"

    return "doubtful" if patient in named.alike else "unknown"


def site_of(folder: Path, patients: list[str]) -> KnownPatients:
    folder.mkdir(exist_ok=True)
    (folder / "site.json").write_text(json.dumps({"subsets": dict.fromkeys(patients, "train")}))
    return KnownPatients(folder)


@pytest.mark.parametrize("cohort", COHORTS)
def test_no_variant_that_a_person_would_call_the_same_patient_is_unknown(tmp_path: Path, cohort: str) -> None:
    made = dict(variants())
    assert len(made) + len(FILES) >= 200
    site = site_of(tmp_path / "site", COHORTS[cohort])
    wrong = []

    for patient in COHORTS[cohort]:
        for name, change in made.items():
            if outcome(site, patient, f"patient_id\n{change(patient)}\n".encode()) == "unknown":
                wrong.append((name, patient, change(patient)))

        for name, write in FILES.items():
            if outcome(site, patient, write(patient)) == "unknown":
                wrong.append((name, patient, repr(write(patient))))

    assert wrong == []


@pytest.mark.parametrize("cohort", COHORTS)
def test_what_a_list_has_unchanged_is_known_in_every_file_that_can_hold_it(tmp_path: Path, cohort: str) -> None:
    site = site_of(tmp_path / "site", COHORTS[cohort])
    for name, write in FILES.items():
        for patient in COHORTS[cohort]:
            content = write(patient)
            if name != "cp1252" or patient.isascii():
                assert outcome(site, patient, content) == "known", (name, patient)


@pytest.mark.parametrize("cohort", COHORTS)
def test_another_patient_is_never_taken_for_one_who_is_known(tmp_path: Path, cohort: str) -> None:
    """Of each cohort all but one are known: the one must not be matched, whatever is made of the identifier."""
    for patient in COHORTS[cohort]:
        site = site_of(tmp_path / "site", [other for other in COHORTS[cohort] if other != patient])
        for name, change in variants():
            try:
                named = site.named(change(patient))
            except IdentifierError:
                continue

            assert not named.is_known, (name, patient, change(patient))


PATIENTS = sorted({patient for patients in COHORTS.values() for patient in patients})


@settings(max_examples=300, deadline=None)
@given(
    patient=st.sampled_from(PATIENTS),
    before=st.text(st.sampled_from(" \u00a0\u200b\ufeff"), max_size=3),
    after=st.text(st.sampled_from(" \u00a0\u200b\ufeff"), max_size=3),
    form=st.sampled_from(["NFC", "NFD"]),
    mark=st.sampled_from(["{}", '"{}"', '="{}"']),
)
def test_white_space_unicode_forms_and_marks_in_any_mixture_make_a_known_patient(
    tmp_path_factory: pytest.TempPathFactory, patient: str, before: str, after: str, form: Form, mark: str
) -> None:
    site = site_of(tmp_path_factory.getbasetemp() / "all", PATIENTS)
    cell = mark.format(before + unicodedata.normalize(form, patient) + after)
    (identifier,) = parse_patient_list(f"patient_id\n{cell}\n".encode(), "list")
    named = site.named(identifier)
    assert named.is_known
    assert normal(named.identifier) == normal(patient)
