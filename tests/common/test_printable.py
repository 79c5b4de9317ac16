"""What a hostile site or file wrote, followed to the bytes that a terminal gets."""

import io
import json
import re
import subprocess
import sys
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Group
from rich.table import Table

from common.errors import InputError
from common.evidence.examination import Examination
from common.evidence.findings import Finding, Outcome
from common.evidence.stand_alone import verifier_archive
from common.evidence.verify import _as_text
from common.platform.checks import Check, as_table
from common.platform.processes.log_filter import keep_all, withhold_unknown
from common.platform.processes.process_log import terminal_line
from common.platform.processes.structured_log import Entry
from common.platform.terminal.console import Terminal, clear_errors, fields_table, rows_table, show
from common.printable import printable

HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07",  # clears the screen, names the window
    "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",  # a link
    "\x9b31mred\x9d52;c;Zm9v\x9c",  # C1: the same in one character each
    "line\nfake: accepted\r\x0b\x0c\x85\u2028\u2029end",
    "\u202etxt.exe\u202c\u2066x\u2069\u200f\u061c",  # bidirectional
    "zero\u200b\u200d\u2060\ufeffwidth\U000e0041tag",
    "\x00\x08\x08\x08\x7f\ud800\ue000\uffff",
)
DANGEROUS = re.compile(r"[^\n\x20-\x7e]")


def is_harmless(text: str) -> bool:
    kinds = {unicodedata.category(char) for char in text.replace("\n", "")}
    return not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize("text", HOSTILE)
def test_commands_to_the_terminal_are_shown_and_not_given(text: str) -> None:
    assert is_harmless(printable(text))
    assert "\n" not in printable(text)
    assert is_harmless(printable(text, lines=True))


@given(st.text())
def test_every_text_becomes_one_harmless_line_and_stays_so(text: str) -> None:
    shown = printable(text)
    assert is_harmless(shown)
    assert "\n" not in shown
    assert printable(shown) == shown


@pytest.mark.parametrize("text", ["Zürich, 22 °C – „gut“", "β = 0.5", "心臓", "naïve\u00a0café", "e\u0301", "✓ · ─ 👍"])
def test_letters_of_all_scripts_stay_as_they_are(text: str) -> None:
    assert printable(text) == text


def printed(drawing: object) -> str:
    file = io.StringIO()
    Terminal(file=file, width=400).print(drawing, markup=False, highlight=False)
    return file.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_no_drawing_lets_them_through(text: str) -> None:
    raw = Table("a")
    raw.add_row(text)  # not by rows_table, as somebody may forget it

    for drawing in (
        text,
        raw,
        Group(fields_table({"reason": text}), rows_table(("what", "detail"), [("veto", text)])),
        as_table([Check("a", "ok", text, text)]),
    ):
        assert is_harmless(printed(drawing))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_cannot_begin_a_row_of_its_own(text: str) -> None:
    assert printed(fields_table({"reason": text})).count("\n") == 1
    assert printed(rows_table(("detail",), [(text,)])).count("\n") == 5


@pytest.mark.parametrize("text", HOSTILE)
def test_an_error_is_one_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BaseException), clear_errors():  # noqa: B017, PT011 - typer's Exit
        raise InputError(text, where=text, remedy=text)
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert is_harmless(shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_json_for_programs_is_ascii(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    show({"reason": text}, "", as_json=True)
    shown = capsys.readouterr().out
    assert not DANGEROUS.search(shown)
    assert json.loads(shown) == {"reason": text}


@pytest.mark.parametrize("text", HOSTILE)
def test_the_verifier_prints_one_line_a_finding(text: str) -> None:
    found = Examination((Finding(text, Outcome.FAILS, text),), (text,), (text,))
    shown = _as_text(found)
    assert is_harmless(shown)
    assert shown.count("\n") == 9


def test_the_verifier_in_one_file_names_a_hostile_path_harmlessly(tmp_path: Path) -> None:
    path = tmp_path / "verify.pyz"
    path.write_bytes(verifier_archive())
    command = [sys.executable, "-I", str(path), "\x1b]0;owned\x07\n\u202e.json", "--key", "site=site.pub"]
    done = subprocess.run(command, capture_output=True, check=False)
    shown = done.stderr.decode()
    assert done.returncode == 2
    assert "\\x1b]0;owned\\x07\\n\\u202e.json" in shown
    assert is_harmless(shown)
    assert shown.count("\n") == 1


@pytest.mark.parametrize("text", HOSTILE[:-1])
def test_logs_hold_no_commands_either(text: str) -> None:
    entry = Entry(datetime.now(UTC), "launcher", "INFO", text)
    assert is_harmless(terminal_line(entry))
    assert "\n" not in terminal_line(entry)
    assert not DANGEROUS.search(entry.to_json())
    for selected in (keep_all(text), withhold_unknown(text)):
        assert selected is None or (is_harmless(selected[1]) and "\n" not in selected[1])
