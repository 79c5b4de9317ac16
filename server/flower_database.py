"""What SuperLink's SQLite leaves of deleted weights: nothing in the database, and nothing in its write-ahead log.

A page that was deleted stays readable in the file until it is used again, which `secure_delete` prevents, and in the
write-ahead log until it is truncated (https://sqlite.org/pragma.html#pragma_wal_checkpoint). SQLite never truncates it
while SuperLink runs: the coordinator does, when no campaign is open.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger("fedforget.coordinator")

SECURE_DELETE = ("secure_delete", "ON")
"""For all of SuperLink's connections."""
_WAIT_SECONDS = 2.0


def truncate_log(database: Path) -> bool:
    """Write everything into the database and empty its log; False where SuperLink reads or writes just now."""
    if not database.is_file():
        return True
    try:
        with closing(sqlite3.connect(database, timeout=_WAIT_SECONDS)) as connection:
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as err:
        log.warning("SuperLink's write-ahead log is not emptied: %s", err.sqlite_errorname)
        return False
    return not busy


@dataclass(slots=True)
class LogWiper:
    """Empties the write-ahead log once after each campaign, and once at the start."""

    database: Path
    _due: bool = field(init=False, default=True)

    def step(self, *, campaign_is_open: bool) -> None:
        """Do what is due; what does not work is tried again at the next step."""
        if campaign_is_open:
            self._due = True
        elif self._due:
            self._due = not truncate_log(self.database)
