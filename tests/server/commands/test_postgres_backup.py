"""A coordinator on a real PostgreSQL: its backup, while it is in use, by `pg_dump`, and its restoration."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, select, text
from sqlalchemy.pool import NullPool
from typer.testing import CliRunner

from common.platform.sql import open_database, transaction
from server.cli import app
from server.database import SiteRow
from server.membership.setup import create_server
from server.settings import ServerFolder

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def empty(postgres: URL) -> Callable[[], str]:
    """URLs of new, empty databases."""

    def make() -> str:
        name = f"backup_{secrets.token_hex(4)}"
        engine = create_engine(postgres, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text(f"create database {name}"))
        engine.dispose()
        return postgres.set(database=name).render_as_string(hide_password=False)

    return make


def enrol(database: str, name: str) -> None:
    engine = open_database(database)
    with transaction(engine) as session:
        row = SiteRow(name=name, state="active", node_key=name, signing_key=name, certificate="", enrolled=NOW)
        session.add(row)
    engine.dispose()


def enrolled(database: str) -> list[str]:
    engine = open_database(database)
    try:
        with transaction(engine) as session:
            return list(session.scalars(select(SiteRow.name).order_by(SiteRow.name)))
    finally:
        engine.dispose()


@pytest.fixture
def backup(empty: Callable[[], str], tmp_path: Path) -> tuple[Path, Path, str]:
    """A backup, made while a transaction is open that is never committed, the key that opens it, and the database."""
    live = empty()
    create_server(tmp_path / "federation", ["localhost"], NOW, ["no", "yes"], live)
    enrol(live, "north")
    code, out, err = run("backup-key", tmp_path / "backup.key", "--json")
    assert code == 0, err

    engine = open_database(live)
    with engine.connect() as writing, writing.begin() as held:
        writing.execute(text("update sites set state = 'suspended'"))
        target = tmp_path / "b.age"
        recipient = json.loads(out)["recipient"]
        code, out, err = run("backup", target, "--recipient", recipient, "--dir", tmp_path / "federation", "--json")
        assert code == 0, err
        held.rollback()
    engine.dispose()
    enrol(live, "south")

    return target, tmp_path / "backup.key", live


def test_a_coordinator_on_postgresql_is_restored_into_an_empty_database_as_it_was(
    backup: tuple[Path, Path, str], empty: Callable[[], str], tmp_path: Path
) -> None:
    file, key, live = backup
    fresh = empty()
    code, out, err = run("restore", file, tmp_path / "again", "--identity", key, "--database", fresh, "--json")
    assert code == 0, out + err
    report: dict[str, Any] = json.loads(out)
    assert all(check["ok"] for check in report["checks"]), report
    assert enrolled(fresh) == ["north"]
    assert enrolled(live) == ["north", "south"]
    restored = ServerFolder(tmp_path / "again")
    assert restored.settings().database == fresh
    assert not (restored.root / "database.pgdump").exists()
    engine = open_database(fresh)
    with transaction(engine) as session:
        assert session.get_one(SiteRow, "north").state == "active", "what was never committed is not in it"
    engine.dispose()


def test_a_database_that_is_not_empty_is_left_as_it_is_and_no_folder_stays(
    backup: tuple[Path, Path, str], tmp_path: Path
) -> None:
    file, key, live = backup
    code, _, err = run("restore", file, tmp_path / "again", "--identity", key, "--database", live)
    assert code == 5, err
    assert enrolled(live) == ["north", "south"]
    assert not (tmp_path / "again").exists()
    assert run("restore", file, tmp_path / "again", "--identity", key)[0] == 2
    assert not (tmp_path / "again").exists()


def test_a_drill_lists_the_snapshot_and_never_reaches_the_live_database(
    backup: tuple[Path, Path, str], tmp_path: Path
) -> None:
    file, key, live = backup
    code, out, err = run("drill", file, "--identity", key)
    assert code == 0, out + err
    assert "a PostgreSQL snapshot of" in out
    assert enrolled(live) == ["north", "south"]
    password = live.partition("//")[2].partition(":")[2].partition("@")[0]
    assert password not in out + err
    assert password.encode() not in file.read_bytes()
    assert not (tmp_path / "again").exists()
