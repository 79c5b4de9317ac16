"""A request that another revocation covers counts when that one is refused or readmitted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import get_args

import pytest

from client.revocations.ledger import Ledger
from client.revocations.look_alikes.ending_holds import end_holds
from client.revocations.revocation import Request, RevocationStatus, Source, SourceKind, State, doubt_about
from client.revocations.workflow.campaign_steps import close
from client.revocations.workflow.decisions import approve, refuse
from client.revocations.workflow.readmission import everybody_of, readmit
from client.settings import SiteFolder
from common.learning.records import Subset
from common.platform.actor import Actor

Asked = Callable[..., Request]
Opening = Callable[[], AbstractContextManager[Ledger]]
LEE = Actor("lee", "user:1000:lee")
FORM = ("ab" * 8, "cd" * 32)


def from_source(asked: Asked, receipt: str, way: str = "list", **more: object) -> Request:
    return replace(asked(receipt, **more), source=Source(way, receipt))  # type: ignore[arg-type]  # a known kind


def lift(ledger: Ledger, receipt: str, how: str) -> None:
    if how == "refuse":
        refuse(ledger, receipt, LEE, "not the patient's own request")
        return
    with ledger.writing() as writing:
        patients = everybody_of(writing, receipt)
        readmit(ledger, writing, receipt, LEE, "consented anew", form=FORM, patients=patients)


def of(ledger: Ledger, patient: str = "p-0") -> dict[str, RevocationStatus]:
    return {standing.receipt: standing for standing in ledger.of_patient(patient)}


@pytest.mark.parametrize("how", ["refuse", "readmit"])
@pytest.mark.parametrize("kind", sorted({*get_args(SourceKind)} - {"restored"}))
def test_what_an_earlier_revocation_of_another_source_covered_counts_once_that_is_lifted(
    ledger: Ledger, opening: Opening, asked: Asked, how: str, kind: str
) -> None:
    ledger.record(asked("r-1"), ["p-0", "p-1"])
    assert ledger.record(from_source(asked, "r-2", kind), ["p-0"]).receipt == "r-1"
    assert of(ledger).keys() == {"r-1"}
    lift(ledger, "r-1", how)
    assert ledger.is_stopped("p-0")
    assert not ledger.is_stopped("p-1")
    assert of(ledger)["r-2"].state is State.PENDING
    with opening() as again:
        assert again.is_stopped("p-0")
        assert of(again).keys() == {"r-1", "r-2"}
    lift(ledger, "r-2", how)
    assert not ledger.is_stopped("p-0")


def test_of_several_covered_requests_the_first_counts_and_the_others_wait_behind_it(
    ledger: Ledger, asked: Asked
) -> None:
    ledger.record(asked("r-1"), ["p-0"])
    for receipt in ("r-2", "r-3"):
        ledger.record(from_source(asked, receipt), ["p-0", "p-1"])
    lift(ledger, "r-1", "refuse")
    assert of(ledger).keys() == {"r-1", "r-2"}
    lift(ledger, "r-2", "refuse")
    assert of(ledger)["r-3"].state is State.PENDING
    assert of(ledger, "p-1")["r-3"].state is State.PENDING
    lift(ledger, "r-3", "refuse")
    assert not ledger.is_stopped("p-0")


def test_a_wider_request_is_not_hidden_by_a_narrower_one(ledger: Ledger, asked: Asked) -> None:
    ledger.record(asked("r-1"), ["p-0"])
    ledger.record(from_source(asked, "r-2", scope="images"), ["p-0"])
    ledger.record(from_source(asked, "r-3"), ["p-0"])
    lift(ledger, "r-1", "refuse")
    assert of(ledger).keys() == {"r-1", "r-2", "r-3"}


@pytest.mark.parametrize("how", [State.UNLEARNED, State.RETRAINED])
def test_the_model_need_not_forget_again_whom_it_has_forgotten(ledger: Ledger, asked: Asked, how: State) -> None:
    ledger.record(asked("r-1"), ["p-0"])
    ledger.record(from_source(asked, "r-2"), ["p-0"])
    close(ledger, [ledger.pseudonyms.of("p-0")], how, campaign=7, model="m")
    lift(ledger, "r-1", "readmit")
    second = of(ledger)["r-2"]
    assert (second.state, second.campaign, second.model) == (how, 7, "m")
    assert ledger.is_stopped("p-0")
    assert ledger.waiting().number == 0


def test_with_two_persons_a_covered_request_waits_for_approval_of_its_own(ledger: Ledger, asked: Asked) -> None:
    ledger.two_person = True
    ledger.record(asked("r-1", steward="lee", identity="user:1000:lee"), ["p-0"])
    approve(ledger, "r-1", Actor("mueller", "user:1001:mueller"))
    ledger.record(from_source(asked, "r-2"), ["p-0"])
    lift(ledger, "r-1", "refuse")
    assert of(ledger)["r-2"].state is State.AWAITING_APPROVAL


def test_the_same_request_is_noted_once_and_only_for_whom_it_adds_nothing(ledger: Ledger, asked: Asked) -> None:
    ledger.record(asked("r-1"), ["p-0"])
    for _ in range(2):
        ledger.record(from_source(asked, "r-2"), ["p-0", "p-2"])
    assert ledger.record(asked("r-1"), ["p-0"]).receipt == "r-1"
    lift(ledger, "r-1", "refuse")
    assert of(ledger)["r-2"].state is State.PENDING
    assert of(ledger, "p-2").keys() == {"r-2"}


def test_a_register_that_lists_settled_patients_every_month_fills_no_table(ledger: Ledger, asked: Asked) -> None:
    register = {"kind": "opt-out", "identity": "key:register"}
    settled = next(name for name, subset in ledger._known.now().items() if subset is not Subset.TRAIN)
    ledger.record(from_source(asked, "r-1", **register), [settled, "stranger"], also_unknown=True)
    ledger.record(from_source(asked, "r-2", **register), [settled, "stranger"], also_unknown=True)
    lift(ledger, "r-1", "readmit")
    assert not ledger.is_stopped("stranger")
    ledger.record(from_source(asked, "r-3", **register), ["stranger"], also_unknown=True)
    assert ledger.is_stopped("stranger")


def backup(folder: SiteFolder) -> bytes:
    with sqlite3.connect(folder.root / "site.db") as database:
        return bytes(database.serialize())


def restore(folder: SiteFolder, content: bytes) -> None:
    for path in folder.root.glob("site.db*"):
        path.unlink()
    (folder.root / "site.db").write_bytes(content)


@pytest.fixture
def at_a_site(configure: Callable[..., None]) -> None:
    configure()


def promoted_is_heard(opening: Opening) -> None:
    with opening() as ledger:
        lift(ledger, "r-1", "refuse")
        assert ledger.is_stopped("p-0")
        assert of(ledger)["r-2"].state is State.PENDING
        lift(ledger, "r-2", "refuse")
        assert not ledger.is_stopped("p-0")
    with opening() as ledger:
        assert not ledger.is_stopped("p-0")


@pytest.mark.usefixtures("at_a_site")
@pytest.mark.parametrize("when", ["before both", "between", "after both"])
def test_a_covered_request_survives_the_restore_of_a_database_of_any_age(
    folder: SiteFolder, opening: Opening, asked: Asked, when: str
) -> None:
    backups = {}
    with opening() as ledger:
        ledger.record(asked("r-0"), ["p-1"])
    backups["before both"] = backup(folder)
    with opening() as ledger:
        ledger.record(asked("r-1"), ["p-0"])
    backups["between"] = backup(folder)
    with opening() as ledger:
        ledger.record(from_source(asked, "r-2"), ["p-0"])
    backups["after both"] = backup(folder)

    restore(folder, backups[when])
    for _ in range(2):  # what the first start finds, the second leaves as it is
        with opening() as ledger:
            assert ledger.is_stopped("p-0")
    promoted_is_heard(opening)


@pytest.mark.usefixtures("at_a_site")
def test_a_restored_covered_request_is_no_second_task_while_the_first_stands(
    folder: SiteFolder, opening: Opening, asked: Asked
) -> None:
    with opening() as ledger:
        ledger.record(asked("r-1"), ["p-0"])
        close(ledger, [ledger.pseudonyms.of("p-0")], State.UNLEARNED, campaign=7, model="m")
    older = backup(folder)
    with opening() as ledger:
        ledger.record(from_source(asked, "r-2"), ["p-0"])
    restore(folder, older)
    with opening() as ledger:
        assert of(ledger).keys() == {"r-1"}
        assert ledger.waiting().number == 0
        lift(ledger, "r-1", "readmit")
        assert ledger.is_stopped("p-0")
        assert of(ledger)["r-2"].state is State.UNLEARNED


@pytest.mark.usefixtures("at_a_site")
def test_a_restored_covered_request_that_arrives_again_counts_once(
    folder: SiteFolder, opening: Opening, asked: Asked
) -> None:
    with opening() as ledger:
        ledger.record(asked("r-1"), ["p-0"])
    older = backup(folder)
    with opening() as ledger:
        ledger.record(from_source(asked, "r-2"), ["p-0"])
    restore(folder, older)
    with opening() as ledger:
        ledger.record(from_source(asked, "r-2"), ["p-0"])
    promoted_is_heard(opening)


@pytest.mark.usefixtures("at_a_site")
def test_what_was_readmitted_after_a_covered_request_stays_readmitted_at_every_start(
    opening: Opening, asked: Asked
) -> None:
    with opening() as ledger:
        ledger.record(asked("r-1"), ["p-0"])
        ledger.record(from_source(asked, "r-2"), ["p-0"])
        lift(ledger, "r-1", "readmit")
        lift(ledger, "r-2", "readmit")
    with opening() as ledger:
        assert not ledger.is_stopped("p-0")


@pytest.mark.usefixtures("at_a_site")
def test_covered_requests_of_an_earlier_release_get_their_tombstones_at_the_next_start(
    folder: SiteFolder, opening: Opening, asked: Asked
) -> None:
    with opening() as ledger:
        ledger.record(asked("r-1"), ["p-0"])
    older = backup(folder)
    stones = folder.tombstones.read_bytes()
    with opening() as ledger:
        ledger.record(from_source(asked, "r-2"), ["p-0"])
    folder.tombstones.write_bytes(stones)  # as that release left the file
    with opening():
        pass
    restore(folder, older)
    promoted_is_heard(opening)


@pytest.mark.usefixtures("at_a_site")
def test_a_wider_request_that_only_the_tombstones_kept_is_a_revocation_of_its_own(
    folder: SiteFolder, opening: Opening, asked: Asked
) -> None:
    with opening() as ledger:
        ledger.record(asked("r-1", kind="opt-out"), ["p-0"])
    older = backup(folder)
    with opening() as ledger:
        ledger.record(from_source(asked, "r-2"), ["p-0"])
    restore(folder, older)
    with opening() as ledger:
        assert of(ledger)["r-2"].kind == "withdrawal"
        assert of(ledger)["r-2"].state is State.PENDING


def doubt(asked: Asked, number: str = "1") -> Request:
    source, receipt = doubt_about("c-1", number, number)
    return replace(asked(receipt, hold="nobody can judge this consent"), source=source)


@pytest.mark.parametrize("how", ["refuse", "readmit"])
def test_an_unclear_consent_that_came_while_a_withdrawal_stood_holds_use_once_that_is_lifted(
    ledger: Ledger, asked: Asked, how: str
) -> None:
    ledger.record(asked("r-1"), ["p-0"])
    ledger.record(doubt(asked), ["p-0"])
    assert of(ledger).keys() == {"r-1"}
    lift(ledger, "r-1", how)
    assert ledger.is_stopped("p-0")
    assert of(ledger)["doubt-1"].state is State.ON_HOLD
    assert ledger.waiting().number == 0


def test_an_unclear_consent_that_became_clear_holds_nobody_later(
    ledger: Ledger, opening: Opening, asked: Asked
) -> None:
    ledger.record(asked("r-1"), ["p-0"])
    ledger.record(doubt(asked), ["p-0"])
    with ledger.writing() as writing:
        end_holds(ledger, writing, ledger.pseudonyms.of("p-0"), "the consents permit use")
    with opening() as again:
        assert of(again).keys() == {"r-1"}
    lift(ledger, "r-1", "refuse")
    assert not ledger.is_stopped("p-0")


def test_a_withdrawal_behind_an_unclear_consent_is_not_hidden_by_it(ledger: Ledger, asked: Asked) -> None:
    ledger.record(asked("r-1"), ["p-0"])
    ledger.record(doubt(asked), ["p-0"])
    ledger.record(from_source(asked, "r-2"), ["p-0"])
    lift(ledger, "r-1", "refuse")
    assert of(ledger)["r-2"].state is State.PENDING


@pytest.mark.usefixtures("at_a_site")
def test_an_unclear_consent_behind_a_withdrawal_survives_the_restore_of_a_database(
    folder: SiteFolder, opening: Opening, asked: Asked
) -> None:
    with opening() as ledger:
        ledger.record(asked("r-1"), ["p-0"])
    older = backup(folder)
    with opening() as ledger:
        ledger.record(doubt(asked), ["p-0"])
    restore(folder, older)
    with opening() as ledger:
        assert of(ledger).keys() == {"r-1"}
        lift(ledger, "r-1", "refuse")
        assert of(ledger)["doubt-1"].state is State.ON_HOLD
