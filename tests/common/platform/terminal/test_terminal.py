"""How a command line ends."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime

import pytest
import typer

from common import errors
from common.platform.terminal.console import clear_errors, rows_table, show


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.FedForgetError("broken"), 1),
        (errors.ConfigError("broken"), 2),
        (errors.WireError("broken"), 3),
        (errors.RefusedError("broken"), 4),
        (errors.UnavailableError("broken"), 5),
        (errors.EvidenceError("broken"), 6),
    ],
)
def test_an_error_of_ours_is_one_line_and_its_exit_code(
    error: errors.FedForgetError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, clear_errors():
        raise error
    assert ended.value.exit_code == code
    assert capsys.readouterr().err == "error: broken\n"


def test_brackets_in_a_message_are_not_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), clear_errors():
        raise errors.InputError("no setting [ports] and no [/]")
    assert capsys.readouterr().err == "error: no setting [ports] and no [/]\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_says_how_to_go_on_and_ends_with_130(
    number: signal.Signals, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    # A test run in the background inherits that Ctrl-C is ignored.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, inherited))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(typer.Exit) as ended, clear_errors("stopped; go on with --resume"):
        signal.raise_signal(number)
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == "stopped; go on with --resume\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_error_nobody_foresaw_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), clear_errors():
        raise ZeroDivisionError


def test_a_program_gets_json_and_a_person_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
    table = rows_table(("name", "seen", "due"), [("north", moment, None)])
    show([{"name": "north", "seen": moment}], table, as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"name": "north", "seen": "2026-11-24T12:30:00+00:00"}]
    show([{"name": "north"}], table, as_json=False)
    assert capsys.readouterr().out.splitlines()[3].split() == ["│", "north", "│", "2026-11-24", "12:30", "│", "-", "│"]
