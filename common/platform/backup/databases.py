"""Consistent copies of databases in use: SQLite's backup API, and `pg_dump`."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL, make_url

from common.errors import InputError, UnavailableError

DUMP = "database.pgdump"


def is_sqlite(url: str) -> bool:
    """Whether the URL names an SQLite file."""
    return make_url(url).get_backend_name() == "sqlite"


def sqlite_file(url: str) -> Path:
    """The file of an SQLite URL."""
    return Path(str(make_url(url).database))


def copy_sqlite(database: Path, target: Path) -> None:
    """Copy a database that others may be writing to (https://www.sqlite.org/backup.html).

    Raises:
        InputError: the database is damaged.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with (
            # Read-only: a missing file is an error here and not a new, empty database.
            closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
            # SQLite copies a damaged database without complaint.
            verdict = copy.execute("pragma integrity_check").fetchone()[0]
    except sqlite3.Error as err:
        raise InputError(f"the database cannot be copied: {err}", where=str(database)) from None
    if verdict != "ok":
        raise InputError("the database is damaged", where=str(database), remedy="restore it from an earlier backup")


def dump_postgres(url: str, target: Path) -> None:
    """A snapshot by `pg_dump`, whose major version must not be below the server's.

    Raises:
        UnavailableError: the program is missing, or the database does not answer.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _run(["pg_dump", "--format=custom", "--no-owner", "--file", str(target)], make_url(url))


def load_postgres(url: str, dump: Path) -> None:
    """Restore a snapshot into an empty database, in one transaction.

    Raises:
        UnavailableError: the program is missing, the database does not answer, or it is not empty.
    """
    database = make_url(url)
    _run(
        [
            "pg_restore",
            "--no-owner",
            "--single-transaction",
            "--exit-on-error",
            f"--dbname={database.database}",
            str(dump),
        ],
        database,
    )


def list_postgres(dump: Path) -> int:
    """Number of tables with data in a snapshot, read without a server.

    Raises:
        UnavailableError: the program is missing, or the snapshot cannot be read.
    """
    text = _run(["pg_restore", "--list", str(dump)], None)
    return sum(" TABLE DATA " in line for line in text.splitlines())


def _run(command: list[str], database: URL | None) -> str:
    # Debian keeps these programs outside of PATH; the newest first, as it reads all older servers.
    program = shutil.which(command[0]) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{command[0]}"), reverse=True)), None
    )
    if program is None:
        raise UnavailableError(f"{command[0]} is not installed: install PostgreSQL's client programs")

    # Variables of the caller's shell must not lead to another server.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    if database is not None:
        # Not on the command line, which every user of the machine can read.
        env |= {
            "PGHOST": database.host or "localhost",
            "PGPORT": str(database.port or 5432),
            "PGUSER": database.username or "",
            "PGPASSWORD": str(database.password or ""),
            "PGDATABASE": database.database or "",
        }
    process = subprocess.run([program, *command[1:]], capture_output=True, text=True, env=env, check=False)
    if process.returncode:
        why = (process.stderr.strip().splitlines() or ["no reason given"])[0]
        raise UnavailableError(f"{command[0]}: {why}")

    return process.stdout
