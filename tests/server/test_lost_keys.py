"""A hospital that lost its keys, or restored its log, comes back under its name if two persons say so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from client.membership.setup import make_keys, request_for
from common.evidence import dsse
from common.platform.event_log.store import EventLog, Record, origin_of
from common.platform.keys.certificates import fingerprint
from common.platform.sql import open_database, transaction
from common.protocol.enrolment import SiteKeys
from server.attestation.event_log import server_log
from server.cli import app
from server.database import EventRow, SiteRow
from server.membership.setup import create_server
from server.settings import ServerFolder

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> ServerFolder:
    create_server(tmp_path / "federation", ["fed.example.org"], datetime.now(UTC) - timedelta(hours=1), ["no", "yes"])
    return ServerFolder(tmp_path / "federation")


@pytest.fixture
def engine(folder: ServerFolder) -> Iterator[Engine]:
    engine = open_database(folder.database_url(folder.settings()))
    yield engine
    engine.dispose()


class Desk:
    """The coordinator's command line, run by logins."""

    def __init__(self, folder: ServerFolder, patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self._folder = folder
        self._patch = patch
        self._tmp = tmp_path

    def run(self, *arguments: str, by: str = "lee", login: str = "user:1000:lee", code: int = 0) -> Any:
        self._patch.setattr("common.platform.login.login", lambda: login)
        more = ["--by", by] if "--replace-keys" in arguments or "restart-log" in arguments else []
        result = CliRunner().invoke(app, ["site", *arguments, *more, "--dir", str(self._folder.root), "--json"])
        assert result.exit_code == code, result.output

        return json.loads(result.stdout) if not code else " ".join(result.stderr.split())

    def approve(self, keys: SiteKeys, *more: str, **said: Any) -> Any:
        request = self._tmp / f"{keys.signing.public.keyid}.json"
        if not request.exists():
            request.write_bytes(request_for("north", keys, None))
        given = ["--fingerprint", fingerprint(request.read_bytes()), "--out", str(self._tmp / "join.json")]
        return self.run("approve", str(request), *given, *more, **said)


@pytest.fixture
def desk(folder: ServerFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Desk:
    return Desk(folder, monkeypatch, tmp_path)


def test_lost_keys_are_replaced_by_two_persons_and_by_no_less(desk: Desk, engine: Engine, tmp_path: Path) -> None:
    old, new = (make_keys(tmp_path / name, b"passphrase") for name in ("old", "new"))
    assert desk.approve(old)["kind"] == "enrolled"
    with Session(engine) as session, session.begin():
        session.get_one(SiteRow, "north").node = 7
    assert "--replace-keys" in desk.approve(new, code=4)
    (tmp_path / "join.json").unlink()
    assert desk.approve(new, "--replace-keys")["kind"] == "proposed"
    assert not (tmp_path / "join.json").exists()
    again = {"by": "weber", "code": 4}
    assert "the same operating-system user" in desk.approve(new, "--replace-keys", **again)
    assert "from a login of their own" in desk.approve(new, "--replace-keys", login="shared:0:root", **again)
    with Session(engine) as session:
        assert session.get_one(SiteRow, "north").signing_key == old.signing.public.pem.decode()
    assert desk.approve(new, "--replace-keys", by="weber", login="user:1001:weber")["kind"] == "replaced"
    assert (tmp_path / "join.json").exists()

    with Session(engine) as session:
        row = session.get_one(SiteRow, "north")
        assert (row.signing_key, row.node) == (new.signing.public.pem.decode(), None)
        said = session.scalars(select(EventRow.detail).where(EventRow.kind == "replaced")).one()

    assert old.signing.public.keyid in said
    assert "weber from operating-system user weber (1001)" in said


def test_a_proposal_is_for_one_request_alone(desk: Desk, tmp_path: Path) -> None:
    old, new, other = (make_keys(tmp_path / name, b"passphrase") for name in ("old", "new", "other"))
    desk.approve(old)
    desk.approve(new, "--replace-keys")
    assert desk.approve(other, "--replace-keys", by="weber", login="user:1001:weber")["kind"] == "proposed"
    assert "has not lost its keys" in desk.approve(old, "--replace-keys", code=4)


def test_a_restored_log_is_co_signed_anew_and_the_one_before_stays_on_record(
    desk: Desk, engine: Engine, tmp_path: Path
) -> None:
    keys = make_keys(tmp_path / "north", b"passphrase")
    desk.approve(keys)
    asked = ("restart-log", "north", "--reason", "backup restored")
    desk.run(*asked)
    assert "nothing to restart" in desk.run(*asked, by="weber", login="user:1001:weber", code=4)
    log = server_log(lambda: NOW)
    server = make_keys(tmp_path / "server", b"passphrase").signing
    # Any log will do in the place of the hospital's, as long as it is signed by its key.
    site = type(log)(log.tables, origin_of("north"), lambda: NOW)
    before = _checkpoint(tmp_path / "before.db", site, keys, 3)
    with transaction(engine) as session:
        log.cosign(session, site.origin, before, keys.signing.public, server, ())
    assert "the same operating-system user" in desk.run(*asked, by="weber", code=4)
    assert desk.run(*asked, by="weber", login="user:1001:weber")["leaves"] == 4
    assert desk.run(*asked, by="kim", login="user:1002:kim")["state"] == "proposed"

    with transaction(engine) as session:
        assert log.peer(session, site.origin) is None
        kept = [peer for peer in log.peers(session) if peer.origin.startswith(f"{site.origin} until ")]
        assert [peer.checkpoint.size for peer in kept] == [4]
        after = _checkpoint(tmp_path / "after.db", site, keys, 1)
        log.cosign(session, site.origin, after, keys.signing.public, server, ())
        said = session.scalars(select(EventRow.detail).where(EventRow.kind == "log-restarted")).one()

    assert said == f"after 4 leaves with root {kept[0].checkpoint.root}: backup restored"


def _checkpoint(path: Path, log: EventLog, keys: SiteKeys, records: int) -> dsse.Envelope:
    """Of a log with so many records, and the leaf that names its key."""
    from server.database import migrate

    engine = open_database(f"sqlite:///{path}")
    migrate(engine)
    with transaction(engine) as session:
        log.append(session, [Record(f"r-{number}", "x", b"{}") for number in range(records)], keys.signing)
        newest = log.newest(session)

    engine.dispose()
    assert newest is not None

    return newest
