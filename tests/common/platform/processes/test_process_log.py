"""The supervisor's log files and its lines on the terminal."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.errors import OutputError
from common.platform.processes.log_filter import withhold_unknown
from common.platform.processes.process_log import ProcessLog, terminal_line
from common.platform.processes.structured_log import Entry

NOON = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)


def test_each_process_has_a_file_of_json_lines_that_went_through_the_filter(tmp_path: Path) -> None:
    shown: list[Entry] = []
    log = ProcessLog(tmp_path / "logs", withhold_unknown, shown.append, lambda: NOON)
    log.output("supernode", "INFO :      Starting Flower SuperNode")
    log.output("launcher", "patient Anna Berg")
    log.output("launcher", "")
    log.event("up", "ready", "ready: supernode, launcher")
    log.close()
    files = {file.name: file.read_text() for file in (tmp_path / "logs").iterdir()}
    assert set(files) == {"supernode.jsonl", "launcher.jsonl", "up.jsonl"}
    assert json.loads(files["launcher.jsonl"]) == {
        "time": "2026-03-01T12:00:05.000+00:00",
        "process": "launcher",
        "level": "INFO",
        "message": "<line withheld: 17 characters>",
    }
    assert json.loads(files["up.jsonl"])["event"] == "ready"
    assert [entry.process for entry in shown] == ["supernode", "launcher", "up"]


def test_a_long_message_is_cut_on_the_terminal_only() -> None:
    line = terminal_line(Entry(NOON, "superlink", "ERROR", "x" * 500))
    assert line.startswith("12:00:05 superlink    ERROR xxx")
    assert len(line) == 160


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    log = ProcessLog(tmp_path / "logs", withhold_unknown, lambda _: None, lambda: NOON)
    with pytest.raises(OutputError, match=r"logs/up\.jsonl: cannot write"):
        log.event("up", "ready", "ready")
