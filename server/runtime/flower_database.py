"""SuperLink's SQLite: which nodes it knows, and that nothing of deleted weights is left in it or in its log.

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

from common.errors import UnavailableError

log = logging.getLogger("fedforget.coordinator")

SECURE_DELETE = ("secure_delete", "ON")
"""For all of SuperLink's connections."""
_WAIT_SECONDS = 2.0
_SHUT_OUT = "unregistered"
"""`flwr.supercore.constant.NodeStatus`."""


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


def node_keys(database: Path) -> frozenset[bytes]:
    """Public keys (PEM) of the nodes that are registered and not shut out.

    Raises:
        UnavailableError: SuperLink has not made its database yet, or it cannot be read.
    """
    try:
        with closing(
            # Read only: SuperLink owns the database, and a file that is missing must not be made here.
            sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=_WAIT_SECONDS)
        ) as connection:
            rows = connection.execute("SELECT public_key, status FROM node WHERE public_key IS NOT NULL").fetchall()
    except sqlite3.Error as err:
        raise UnavailableError(f"SuperLink's nodes cannot be read: {err.sqlite_errorname}") from None

    return frozenset(bytes(key) for key, status in rows if status != _SHUT_OUT)


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
