"""Two hospitals and the coordinator's table between them: who is told, by what, and what nobody learns."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import Engine, select

from client.revocations.ledger import Ledger
from client.revocations.linkage.linking import Linking
from client.revocations.linkage.status import LinkageStatus, linkage_statuses
from client.revocations.linkage.tokens import make_tokens, match, read_linkage, untold
from client.revocations.opening import open_ledger
from client.revocations.revocation import Receipt, Request, Source, State
from client.revocations.rows.ledger_tables import LinkReceivedRow
from client.revocations.workflow.decisions import approve, refuse
from client.settings import SiteFolder
from common.errors import ConfigError, InputError, WireError
from common.files import write_private
from common.platform.actor import Actor
from common.platform.sql import open_database, transaction
from common.protocol.coordination import coordination_pb2 as messages
from server.database import LinkageTokenRow, SiteRow, migrate
from server.membership import linkage as desk

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OLD = secrets.token_bytes(32)
NEW = secrets.token_bytes(32)


def make_hospital(root: Path, keys: dict[str, bytes], **settings: object) -> SiteFolder:
    """One with its own ids of patients, and a list of what other hospitals know them by."""
    root.mkdir()
    subsets = {f"{root.name}-{n}": "train" for n in range(4)}
    (root / "site.json").write_text(json.dumps({"name": root.name, "subsets": subsets}), encoding="utf-8")
    rows = "".join(f"{root.name}-{n},Kv {n}\n" for n in range(9))
    (root / "identifiers.csv").write_text(f"patient_id,identifier\n{rows}", encoding="utf-8")
    use(SiteFolder(root), keys, **settings)

    return SiteFolder(root)


def use(folder: SiteFolder, keys: dict[str, bytes], **settings: object) -> None:
    """Put these keys of linkage into `site.toml`."""
    for key, content in keys.items():
        path = folder.root / "secrets" / f"linkage-{key}"
        path.unlink(missing_ok=True)
        write_private(path, content)

    fixed = {"name": folder.root.name, "gateway": "a:1", "coordination": "a:2", "ca_fingerprint": "0"}
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in {**fixed, **settings}.items()]
    paths = ", ".join(f'{key} = "secrets/linkage-{key}"' for key in keys)
    lines += ["[linkage]\n", f"keys = {{ {paths} }}\n", 'identifiers = "identifiers.csv"\n']
    folder.settings_file.write_text("".join(lines), encoding="utf-8")


class Stub:
    """The coordinator's answer to one site, without the wire."""

    def __init__(self, engine: Engine, site: str, most: int = 1000) -> None:
        self.engine = engine
        self.site = site
        self.most = most
        self.calls = 0

    def ExchangeTokens(self, request: messages.ExchangeTokensRequest, timeout: float) -> Any:
        self.calls += 1
        assert timeout > 0
        with transaction(self.engine) as session:
            tokens, upto, others = desk.exchange(session, self.site, request.tokens, request.after, self.most)
        return messages.ExchangeTokensReply(tokens=tokens, upto=upto, others=others)


@pytest.fixture(params=["sqlite", "postgresql"])
def coordinator(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'server.db'}"
    engine = open_database(request.getfixturevalue("postgres_url") if request.param == "postgresql" else url)
    migrate(engine)
    with transaction(engine) as session:
        for name in ("north", "south", "east"):
            session.add(SiteRow(name=name, state="active", node_key="", signing_key="", certificate="", enrolled=NOW))

    yield engine
    engine.dispose()


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Callable[..., Ledger]]:
    with ExitStack() as stack:

        def make(name: str, keys: dict[str, bytes], **settings: object) -> Ledger:
            place = make_hospital(tmp_path / name, keys, **settings)
            return stack.enter_context(open_ledger(place, lambda: NOW))

        yield make


def revoke(ledger: Ledger, patient: str, number: str = "r-1", **more: Any) -> Receipt:
    return ledger.record(Request(Source("cli", number), number, NOW, **more), [patient], also_unknown=True)


def linking(ledger: Ledger) -> Linking:
    return Linking(ledger, lambda: read_linkage(ledger.folder))


def test_a_patient_known_at_two_hospitals_is_stopped_at_both(
    coordinator: Engine, hospital: Callable[..., Ledger], caplog: pytest.LogCaptureFixture
) -> None:
    north = hospital("north", {"a": OLD})
    south = hospital("south", {"b": OLD})
    assert revoke(north, "north-1").others == 0
    for ledger in (north, south, south):
        linking(ledger).exchange(Stub(coordinator, ledger.folder.root.name))  # type: ignore[arg-type]  # one of its calls
    (found,) = south.standing()
    assert (found.source.kind, found.state, found.requester) == ("link", State.PENDING, "another hospital")
    assert south.is_stopped("south-1")
    assert not south.is_stopped("south-2")
    assert "1 patients here have revoked at another hospital" in caplog.text
    # What came by linkage is not told again, and what one says now has others behind it.
    assert make_tokens(south, read_linkage(south.folder)) == 0  # type: ignore[arg-type]  # it has keys
    assert revoke(south, "south-2").others == 2
    with transaction(coordinator) as session:
        stored = session.scalars(select(LinkageTokenRow.token)).all()
    assert len(stored) == 1
    assert not any(word in stored[0] + caplog.text for word in ("north-1", "south-1", "kv", "Kv"))


class RefusingStub:
    """A coordinator whose linkage is off."""

    def ExchangeTokens(self, *_: object, **__: object) -> Any:
        raise OffError


class OffError(grpc.RpcError):  # type: ignore[misc]  # as grpc raises it
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.FAILED_PRECONDITION

    def details(self) -> str:
        return "linkage is off at the coordinator\x1b[2J"


def test_a_coordinator_whose_linkage_is_off_is_said_once_and_disturbs_nothing_else(
    hospital: Callable[..., Ledger], caplog: pytest.LogCaptureFixture
) -> None:
    north = hospital("north", {"a": OLD})
    revoke(north, "north-1")
    exchange = linking(north).exchange
    for _ in range(3):
        exchange(RefusingStub())  # type: ignore[arg-type]  # one of its calls
    assert caplog.text.count("set `linkage = true` in server.toml") == 1
    assert "\x1b" not in caplog.text


def test_no_site_can_fill_the_coordinators_database(coordinator: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MAX_TOKENS", 3)

    def give(site: str, *numbers: int) -> int:
        with transaction(coordinator) as session:
            desk.exchange(session, site, [bytes([number]) * 32 for number in numbers], 0, 10)
        with transaction(coordinator) as session:
            return len(session.scalars(select(LinkageTokenRow.token).where(LinkageTokenRow.site == site)).all())

    assert give("north", 1, 2, 3) == 3
    with pytest.raises(desk.TooManyTokensError):
        give("north", 4)
    assert give("north", 1, 2) == 3
    assert give("south", 4) == 1


def test_what_others_were_told_is_known_at_every_step(coordinator: Engine, hospital: Callable[..., Ledger]) -> None:
    north = hospital("north", {"a": OLD})
    south = hospital("south", {"a": OLD})

    def told(ledger: Ledger, number: str) -> LinkageStatus:
        (found,) = linkage_statuses(ledger, read_linkage(ledger.folder), ledger.standing(number))
        return found

    def talk(*ledgers: Ledger) -> None:
        for ledger in ledgers:
            linking(ledger).exchange(Stub(coordinator, ledger.folder.root.name))  # type: ignore[arg-type]  # one of its calls

    revoke(north, "north-1")
    revoke(north, "north-2", "r-2", hold="unclear")
    revoke(north, "nobody-knows", "r-3")
    assert [told(north, number).how for number in ("r-1", "r-2", "r-3")] == ["waiting", "undecided", "no-identifier"]
    talk(north, south)
    assert told(north, "r-1") == LinkageStatus("told", 2, NOW)
    assert [told(north, number).how for number in ("r-2", "r-3")] == ["undecided", "no-identifier"]
    (came,) = south.standing()
    assert told(south, came.receipt) == LinkageStatus("from-another")
    assert linkage_statuses(north, None, [came]) == [LinkageStatus("not-linked")]
    every = linkage_statuses(north, read_linkage(north.folder), north.standing())
    assert [each.how for each in every] == ["told", "undecided", "no-identifier"]
    with transaction(coordinator) as session:
        for row in session.scalars(select(SiteRow).where(SiteRow.name != "north")):
            row.state = "revoked"

    revoke(north, "north-3", "r-4")
    talk(north)
    assert told(north, "r-4") == LinkageStatus("nobody")


def test_who_is_imported_later_is_stopped_too(coordinator: Engine, hospital: Callable[..., Ledger]) -> None:
    north = hospital("north", {"a": OLD})
    south = hospital("south", {"a": OLD})
    revoke(north, "north-8")
    for ledger in (north, south):
        linking(ledger).exchange(Stub(coordinator, ledger.folder.root.name))  # type: ignore[arg-type]  # as above
    assert south.standing() == ()
    linkage = read_linkage(south.folder)
    assert linkage is not None
    assert match(south, linkage, ["south-7", "south-8"]) == 1
    assert match(south, linkage, ["south-7", "south-8"]) == 0
    assert south.is_stopped("south-8")


def test_a_rotation_loses_no_revocation(coordinator: Engine, hospital: Callable[..., Ledger]) -> None:
    north = hospital("north", {"a": OLD})
    south = hospital("south", {"b": NEW})
    revoke(north, "north-1")
    for ledger in (north, south):
        linking(ledger).exchange(Stub(coordinator, ledger.folder.root.name))  # type: ignore[arg-type]  # as above
    assert south.standing() == ()
    use(north.folder, {"a": OLD, "b": NEW})
    for ledger in (north, south):
        linking(ledger).exchange(Stub(coordinator, ledger.folder.root.name))  # type: ignore[arg-type]  # as above
    assert south.is_stopped("south-1")


def test_with_another_key_nobody_is_found(coordinator: Engine, hospital: Callable[..., Ledger]) -> None:
    north = hospital("north", {"a": OLD})
    south = hospital("south", {"a": NEW})
    revoke(north, "north-1")
    for ledger in (north, south):
        linking(ledger).exchange(Stub(coordinator, ledger.folder.root.name))  # type: ignore[arg-type]  # as above
    assert south.standing() == ()


def test_what_nobody_has_decided_is_not_told(hospital: Callable[..., Ledger]) -> None:
    north = hospital("north", {"a": OLD}, two_person_approval=True)
    linkage = read_linkage(north.folder)
    assert linkage is not None
    revoke(north, "north-1", "r-1", steward="mueller", identity="user:1001:mueller")
    revoke(north, "north-2", "r-2", hold="unclear")
    assert make_tokens(north, linkage) == 0
    refuse(north, "r-2", Actor("mueller"), "not the patient")
    approve(north, "r-1", Actor("schmidt", "user:1000:schmidt"))
    assert make_tokens(north, linkage) == 1
    assert len(untold(north, 10)) == 1


def test_many_tokens_go_in_parts_and_all_arrive(coordinator: Engine, hospital: Callable[..., Ledger]) -> None:
    south = hospital("south", {"a": OLD})
    stubs = [Stub(coordinator, "north"), Stub(coordinator, "east"), Stub(coordinator, "south", most=4)]
    tokens = [bytes([n]) * 32 for n in range(10)]
    for stub in stubs[:2]:
        stub.ExchangeTokens(messages.ExchangeTokensRequest(tokens=tokens), 1.0)
        stub.ExchangeTokens(messages.ExchangeTokensRequest(tokens=tokens), 1.0)

    linking(south).exchange(stubs[2])  # type: ignore[arg-type]  # as above
    with transaction(south.engine) as session:
        assert set(session.scalars(select(LinkReceivedRow.token))) == {token.hex() for token in tokens}
    assert stubs[2].calls == 6


def test_an_answer_that_holds_no_tokens_is_refused(hospital: Callable[..., Ledger]) -> None:
    class Bad:
        def ExchangeTokens(self, *_: object, **__: object) -> Any:
            return messages.ExchangeTokensReply(tokens=[b"north-1"], upto=1)

    south = hospital("south", {"a": OLD})
    with pytest.raises(WireError, match="invalid tokens"):
        linking(south).exchange(Bad())  # type: ignore[arg-type]  # as above


def test_the_way_an_identifier_is_written_does_not_matter(hospital: Callable[..., Ledger]) -> None:
    linkage = read_linkage(hospital("north", {"a": OLD, "b": NEW}).folder)
    assert linkage is not None
    same = {frozenset(linkage.tokens("north-1")), frozenset(type(linkage)(linkage.keys, lambda _: " kV1 ").tokens("x"))}
    assert len(same) == 1
    assert len(linkage.tokens("north-1")) == 2
    assert linkage.tokens("nobody") == frozenset()


def test_keys_that_are_short_missing_or_open_to_others_are_refused(hospital: Callable[..., Ledger]) -> None:
    folder = hospital("north", {"a": b"short"}).folder
    with pytest.raises(ConfigError, match="too short"):
        read_linkage(folder)
    key = folder.root / "secrets" / "linkage-a"
    key.chmod(0o644)
    with pytest.raises(InputError, match="others can read"):
        read_linkage(folder)
    key.unlink()
    with pytest.raises(InputError, match="cannot read"):
        read_linkage(folder)


def test_without_keys_the_receipt_says_that_others_were_not_reached(hospital: Callable[..., Ledger]) -> None:
    north = hospital("north", {})
    assert read_linkage(north.folder) is None
    assert revoke(north, "north-1").others is None
