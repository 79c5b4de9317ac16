"""What the ledger keeps, in what order, and what it refuses, on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event, text
from sqlalchemy.exc import DatabaseError, IntegrityError

import client.evidence.console_events
import client.intake.fhir.store.consents  # noqa: F401 - the tables of the consents
from client.database import Base
from client.revocations.exemptions import Exemption, keep_in_part
from client.revocations.ledger import Ledger
from client.revocations.revocation import Event, Request, Source, State
from client.revocations.rows.ledger_rows import add_events
from client.revocations.rows.ledger_tables import APPEND_ONLY, AccessRow
from client.settings import SiteFolder
from common.errors import CohortError, InputError
from common.platform.actor import Actor
from common.platform.sql import transaction

RequestFactory = Callable[..., Request]
DUE = datetime(2026, 4, 1, 12, tzinfo=UTC)


def states(ledger: Ledger) -> list[State]:
    return [standing.state for standing in ledger.standing()]


def test_the_migrations_give_exactly_the_tables_of_the_code(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_revocation_is_classified_by_the_set_that_the_patient_is_in(ledger: Ledger, asked: RequestFactory) -> None:
    receipt = ledger.record(asked(), ["p-0", "p-5", "nobody"], also_unknown=True)
    assert (receipt.receipt, receipt.patients, receipt.earlier, receipt.due) == ("r-1", 3, 0, DUE)
    assert states(ledger) == [State.PENDING, State.EVALUATION_ONLY, State.EXCLUDED]
    assert ledger.waiting() == (1, DUE)
    assert len(ledger.stopped()) == 3
    assert ledger.is_stopped("nobody")
    assert not ledger.is_stopped("p-1")


def test_everything_that_a_request_says_is_read_back(ledger: Ledger, asked: RequestFactory) -> None:
    request = asked(
        source=Source("grpc", "request-7", "2", "d" * 64),
        scope="images",
        policies=("b", "a"),
        requester="guardian",
        identity_check="passport",
        steward="mueller",
        effective=DUE,
    )
    ledger.record(request, ["p-0"])
    (found,) = ledger.standing("r-1")
    assert (found.source, found.scope, found.policies) == (request.source, "images", ("a", "b"))
    assert (found.requester, found.identity_check, found.steward) == ("guardian", "passport", "mueller")
    assert (found.received, found.effective, found.recorded, found.due) == (request.received, DUE, ledger.clock(), DUE)
    assert [(e.seq, e.state, e.actor) for e in ledger.history("r-1")] == [
        (1, State.RECEIVED, "mueller"),
        (2, State.PENDING, "fedforget"),
    ]


def test_a_request_that_comes_again_is_recorded_once_and_gets_its_first_receipt(
    ledger: Ledger, asked: RequestFactory
) -> None:
    ledger.record(asked(), ["p-0", "p-1"])
    again = ledger.record(replace(asked(), receipt="r-2", received=DUE), ["p-1", "p-0"])
    assert (again.receipt, again.earlier, again.received, again.due) == ("r-1", 2, ledger.clock(), DUE)
    assert len(ledger.standing()) == 2


def test_a_wider_scope_is_a_new_revocation_and_a_narrower_one_is_none(ledger: Ledger, asked: RequestFactory) -> None:
    ledger.record(asked("r-1", scope="images"), ["p-0"])
    assert ledger.record(asked("r-2"), ["p-0"]).earlier == 0
    assert ledger.record(asked("r-3", scope="reports"), ["p-0"]).receipt == "r-2"
    assert ledger.waiting().number == 1


def test_with_an_unknown_patient_nothing_is_recorded(ledger: Ledger, asked: RequestFactory) -> None:
    with pytest.raises(CohortError, match="1 of 2 patients on the list are not known") as caught:
        ledger.record(asked(), ["p-0", "MRN-5"])
    assert "MRN-5" not in str(caught.value)
    assert ledger.standing() == ()
    assert ledger.stopped() == frozenset()


@pytest.mark.parametrize("receipt", ["", "a b", "a\n", "x" * 65, "ü"])
def test_a_receipt_that_could_not_stand_in_the_tombstones_is_refused(
    ledger: Ledger, asked: RequestFactory, receipt: str
) -> None:
    with pytest.raises(InputError, match="invalid receipt"):
        ledger.record(replace(asked(), receipt=receipt), ["p-0"])
    assert ledger.standing() == ()


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("change", ["update {0} set {1} = {1}", "delete from {0}"])
def test_the_database_refuses_every_change_of_a_row(
    ledger: Ledger, asked: RequestFactory, table: str, change: str
) -> None:
    receipt = ledger.record(asked(), ["p-0"]).receipt
    keep_in_part(ledger, receipt, Actor("Lee"), "why", Exemption("research", "locked-copy"))
    with transaction(ledger.engine) as session:
        session.add(AccessRow(campaign=1, what="opened", at=ledger.clock(), patients=1, purged={}))
    column = {"revocations": "receipt", "revocation_events": "state", "accesses": "what", "exemptions": "code"}[table]
    with pytest.raises(DatabaseError, match="append-only"), transaction(ledger.engine) as session:
        session.execute(text(change.format(table, column)))


def test_of_two_steps_at_once_the_database_takes_one(ledger: Ledger, asked: RequestFactory) -> None:
    ledger.record(asked(), ["p-0"])
    (found,) = ledger.standing()
    step = Event(found.number, found.steps + 1, ledger.clock(), State.IN_CAMPAIGN, "a", found.due)
    with transaction(ledger.engine) as session:
        add_events(session, [step])
    with pytest.raises(IntegrityError), transaction(ledger.engine) as session:
        add_events(session, [replace(step, state=State.RETRAINED)])
    assert states(ledger) == [State.IN_CAMPAIGN]


def test_no_identifier_is_readable_in_the_files_of_the_ledger(
    folder: SiteFolder, opening: Callable[[], AbstractContextManager[Ledger]], asked: RequestFactory
) -> None:
    with opening() as ledger:
        ledger.record(asked(), ["MRN-0815"], also_unknown=True)
        assert ledger.identifiers()[ledger.pseudonyms.of("MRN-0815")] == "MRN-0815"

    for path in folder.root.rglob("*"):
        if path.is_file():
            assert b"MRN-0815" not in path.read_bytes(), path
            assert path.name == "site.json" or path.stat().st_mode & 0o077 == 0 or path.suffix.startswith(".db"), path


def test_a_list_of_1500_patients_is_one_transaction_and_one_write_of_the_tombstones(
    opening: Callable[[], AbstractContextManager[Ledger]], asked: RequestFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    with opening() as ledger:
        commits: list[object] = []
        event.listen(ledger.engine, "commit", commits.append)
        real = os.fsync

        def fsync(handle: int) -> None:
            synced.append(handle)
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        ledger.record(asked(), [f"q-{n}" for n in range(1500)], also_unknown=True)
        assert len(commits) == 1
        assert len(synced) == 2, "the file, and its folder as it is new"
        ledger.record(asked("r-2"), [f"s-{n}" for n in range(10)], also_unknown=True)
        assert (len(commits), len(synced)) == (2, 3)
        assert len(ledger.standing("r-1")) == 1500
        assert len(ledger.stopped()) == 1510


def test_what_was_restored_from_a_tombstone_gives_way_to_the_request_when_it_comes_again(
    folder: SiteFolder, opening: Callable[[], AbstractContextManager[Ledger]], asked: RequestFactory
) -> None:
    with opening() as ledger:
        ledger.record(asked(requester="guardian"), ["p-0"])
    folder.root.joinpath("revocations.db").unlink()
    with opening() as ledger:
        assert [s.source.kind for s in ledger.standing()] == ["restored"]
        assert ledger.record(asked(requester="guardian"), ["p-0"]).receipt == "r-1"
        (found,) = ledger.standing("r-1")
        assert (found.source.kind, found.requester) == ("cli", "guardian")
        assert len(ledger.history("r-1")) == 4
        assert ledger.waiting().number == len(ledger.stopped()) == 1
