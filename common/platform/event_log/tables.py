"""Tables of a tamper-evident log, the same at the coordinator and at a site."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Column, Integer, MetaData, String, Table, Text

from common.platform.sql import UtcDateTime


@dataclass(frozen=True, slots=True)
class LogTables:
    """The tables of one side's log.

    `head` is the tree's growing edge in a single row, whose lock keeps writers apart. `checkpoints` holds those of this
    log with all their signatures. `peers` holds, for each other log, the newest checkpoint co-signed here.
    """

    head: Table
    leaves: Table
    vault: Table
    checkpoints: Table
    peers: Table


def log_tables(metadata: MetaData) -> LogTables:
    """Declare the tables; the migrations of each side create them."""
    return LogTables(
        Table(
            "log_head",
            metadata,
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("size", Integer, nullable=False),
            Column("peaks", Text, nullable=False),
        ),
        Table(
            "log_leaves",
            metadata,
            Column("position", Integer, primary_key=True, autoincrement=False),
            Column("leaf", Text, nullable=False),
        ),
        Table(
            "log_vault",
            metadata,
            Column("source", String(200), primary_key=True),
            Column("position", Integer, nullable=True, unique=True),
            Column("document", Text, nullable=False),
            Column("salt", String(64), nullable=False),
        ),
        Table(
            "log_checkpoints",
            metadata,
            Column("size", Integer, primary_key=True, autoincrement=False),
            Column("envelope", Text, nullable=False),
        ),
        Table(
            "log_peers",
            metadata,
            Column("origin", String(200), primary_key=True),
            Column("envelope", Text, nullable=False),
            Column("seen", UtcDateTime, nullable=False),
            Column("trouble", Text, nullable=False),
        ),
    )
