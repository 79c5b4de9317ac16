"""Logs as JSON lines: writing by our own loggers (`fedforget.*`), and reading.

A line never holds the text of an exception or a local variable, which may quote a patient's data; it holds the class of
the exception and the places it passed through.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

ROOT = "fedforget"
"""Name of the logger above all of ours."""
_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})
_LOGGER = re.compile(rf"{ROOT}(\.[a-z_]+)*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a log; `event` is set where a program may wait for it (`ready`, `ended`, ...)."""

    time: datetime
    process: str
    level: str
    message: str
    event: str = ""

    def to_json(self) -> str:
        """One line, without its end."""
        fields = {**asdict(self), "time": self.time.astimezone(UTC).isoformat(timespec="milliseconds")}
        return json.dumps({name: value for name, value in fields.items() if value or name != "event"})


class JsonFormatter(logging.Formatter):
    """A record as one JSON line: time (UTC), level, logger, message, and the class and places of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }

        if record.exc_info and record.exc_info[0] is not None:
            frames = traceback.extract_tb(record.exc_info[2])
            fields["error"] = record.exc_info[0].__name__
            fields["at"] = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]

        return json.dumps(fields)


def configure(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Make our loggers write JSON lines to `stream` (default: standard error); call once, at the start of a process."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger(ROOT)
    for old in [*logger.handlers]:
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


def parse_own(line: str) -> tuple[str, str] | None:
    """Level and message of a line that `JsonFormatter` wrote, None for any other line; unknown fields are dropped."""
    if not line.startswith("{"):
        return None
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None

    if not isinstance(fields, dict) or fields.get("level") not in _LEVELS:
        return None
    logger = fields.get("logger")
    message = fields.get("message")
    # The line may come from any library: only names of our loggers pass.
    if not isinstance(logger, str) or not isinstance(message, str) or not _LOGGER.fullmatch(logger):
        return None
    error = fields.get("error")
    places = fields.get("at")
    if isinstance(error, str) and error.isidentifier() and isinstance(places, list):
        message += f" [{error} at {' > '.join(str(place) for place in places[-4:])}]"
    return str(fields["level"]), message
