"""Logs of the supervisor: one rotating file of JSON lines per process, and short lines on the terminal."""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from common.disk import unwritable
from common.platform.processes.structured_log import Entry
from common.printable import printable

_FILE_BYTES = 10 * 2**20
_KEPT = 5
_TERMINAL_WIDTH = 160


@dataclass(slots=True)
class ProcessLog:
    """Filter, stamp and write lines.

    Args:
        folder: folder of `<process>.jsonl`, ten MiB each, with five older files.
        select: level and message of a printed line, as far as they may be kept; see `log_filter.py`.
        show: prints an entry to the terminal.
        now: returns the current time.
    """

    folder: Path
    select: Callable[[str], tuple[str, str] | None]
    show: Callable[[Entry], None]
    now: Callable[[], datetime]
    _files: dict[str, logging.Handler] = field(init=False, default_factory=dict)

    def output(self, process: str, text: str) -> None:
        """A line that a child printed."""
        line = self.select(text)
        if line is not None:
            self._write(Entry(self.now(), process, *line))

    def event(self, process: str, event: str, message: str, level: str = "INFO") -> None:
        """An event in the supervisor."""
        self._write(Entry(self.now(), process, level, message, event))

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _write(self, entry: Entry) -> None:
        file = self._files.get(entry.process) or self._open(entry.process)
        file.handle(logging.makeLogRecord({"msg": entry.to_json(), "levelno": logging.INFO}))
        self.show(entry)

    def _open(self, process: str) -> logging.Handler:
        path = self.folder / f"{process}.jsonl"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = logging.handlers.RotatingFileHandler(path, maxBytes=_FILE_BYTES, backupCount=_KEPT, encoding="utf-8")
        except OSError as err:
            raise unwritable(err, path, remedy="check its owner") from None

        # A full disk must not cause a traceback for every line; the terminal still shows the lines.
        file.handleError = lambda record: None  # type: ignore[method-assign]  # noqa: ARG005 - as it is called
        self._files[process] = file

        return file


def terminal_line(entry: Entry) -> str:
    """An entry for people: time of day (UTC), process, level where it matters, and the message cut to a line."""
    level = "" if entry.level in {"INFO", "DEBUG"} else f"{entry.level} "
    line = f"{entry.time:%H:%M:%S} {entry.process:<12} {level}{printable(entry.message)}"
    return line if len(line) <= _TERMINAL_WIDTH else line[: _TERMINAL_WIDTH - 1] + "…"
