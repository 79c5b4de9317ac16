"""What may be logged at a hospital: what is known to be safe, and of the rest only its length."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ConfigError
from common.learning.config import TrainConfig
from common.platform.processes import structured_log
from common.platform.processes.log_filter import keep_all, plain, withhold_unknown
from common.settings import parse


@pytest.fixture
def own_line() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    structured_log.configure(stream)
    yield stream
    logger = logging.getLogger(structured_log.ROOT)
    logger.handlers.clear()
    logger.propagate = True


@pytest.mark.parametrize(
    "message",
    [
        "Starting Flower SuperNode",
        "SuperNode ID: 9223372036854775809",
        "[RUN 17, ROUND unlearn]",
        "Receiving: train.unlearn message (ID: 6bdc0ab3ff)",
        "Connection attempt failed, retrying in 1.23 seconds",
        "Exit Code: 305",
    ],
)
def test_lines_that_flower_is_known_to_print_are_kept_without_their_colour(message: str) -> None:
    assert withhold_unknown(f"\x1b[92mINFO \x1b[0m:      {message}\n") == ("INFO", message)


@pytest.mark.parametrize(
    "line",
    [
        "patient 10003412 has an opacity",
        "INFO :      Starting Flower SuperNode for Anna Berg",
        "\x1b[91mERROR \x1b[0m:     Failed to receive message 3f: /data/berg-anna.dcm",
        "    study = Study('p10003412', report='Large left effusion.')",
        '  File "/data/berg-anna.py", line 3, in load',
        '{"level": "INFO", "logger": "elsewhere", "message": "Anna Berg"}',
        "INFO: Anna Berg",
        '{"level": "Anna Berg", "logger": "fedforget.site", "message": "x"}',
        "Receiving: train message (ID: annaberg)",
        "AnnaBergError: no such image",
    ],
)
def test_anything_else_leaves_only_its_length(line: str) -> None:
    selected = withhold_unknown(line)
    assert selected is not None
    assert selected[1].startswith("<line withheld: ")
    assert "erg" not in selected[1]
    assert "1000" not in selected[1]


def test_of_a_traceback_the_places_and_the_exception_are_kept_and_no_text() -> None:
    try:
        parse(TrainConfig, {"rounds": "Anna Berg"}, "anna-berg.toml")
    except ConfigError:
        text = traceback.format_exc()

    kept = [selected[1] for line in text.splitlines() if (selected := withhold_unknown(line)) is not None]
    assert any(line.startswith("at common/settings.py:") and line.endswith(" parse") for line in kept)
    assert any(line.startswith("ConfigError <text withheld: ") for line in kept)
    assert "Berg" not in "".join(kept)
    assert "berg" not in "".join(kept)


def test_lines_of_our_own_loggers_are_kept(own_line: io.StringIO) -> None:
    logging.getLogger("fedforget.launcher").warning("refused a bundle\nthat nobody approved")
    assert own_line.getvalue().count("\n") == 1
    assert withhold_unknown(own_line.getvalue()) == ("WARNING", "refused a bundle that nobody approved")
    assert keep_all(own_line.getvalue()) == withhold_unknown(own_line.getvalue())


def test_our_own_loggers_never_write_the_text_of_an_exception(own_line: io.StringIO) -> None:
    try:
        raise ValueError("Anna Berg, 10003412")
    except ValueError:
        logging.getLogger("fedforget.site").exception("a request failed")

    assert "Berg" not in own_line.getvalue()
    selected = withhold_unknown(own_line.getvalue())
    assert selected is not None
    assert selected[0] == "ERROR"
    assert selected[1].startswith("a request failed [ValueError at test_log_filter.py:")


def test_other_loggers_write_nothing_through_ours(own_line: io.StringIO) -> None:
    logging.getLogger("elsewhere").error("Anna Berg")
    assert own_line.getvalue() == ""


def test_the_coordinator_keeps_text_and_reads_its_level() -> None:
    assert keep_all("\x1b[93mWARNING \x1b[0m:   the disk is slow") == ("WARNING", "the disk is slow")
    assert keep_all("2026-03-01T12:00:05.315Z INFO [uvicorn.error] Shutting down") == (
        "INFO",
        "[uvicorn.error] Shutting down",
    )
    assert keep_all("plain text") == ("INFO", "plain text")
    assert keep_all("\x1b[0m   \n") is None
    assert keep_all("\x1b[92mINFO \x1b[0m:      \n") is None


def test_json_that_is_nested_too_deep_is_text_like_any_other() -> None:
    selected = withhold_unknown('{"a":' + "[" * 10_000)
    assert selected == ("INFO", "<line withheld: 10005 characters>")


def test_requests_that_superlink_served_are_not_logged_and_refused_ones_are() -> None:
    line = '2026-03-01T12:00:05.315Z INFO [uvicorn.access] 127.0.0.1:9 - "POST /v1/fleet/pull-messages HTTP/1.1" '
    assert keep_all(line + "200") is None
    assert keep_all("\x1b[92mINFO \x1b[0m:      ControlServicer.ListRuns") is None
    assert keep_all(line + "412") is not None


@given(st.text())
def test_a_printed_line_never_breaks_a_line_or_moves_the_cursor(text: str) -> None:
    assert plain(text).isprintable() or all(ord(letter) >= 0xA0 for letter in plain(text) if not letter.isprintable())
    assert len(plain(text).splitlines()) <= 1


@given(st.text())
def test_free_text_is_never_kept(text: str) -> None:
    selected = withhold_unknown(text)
    assert selected is None or "withheld: " in selected[1]
