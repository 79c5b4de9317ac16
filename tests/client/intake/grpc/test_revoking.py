"""Revocations that arrive together share one commit, and none suffers from another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from client.intake.grpc.access import Caller, Refusal
from client.intake.grpc.group import Group
from client.intake.grpc.requests import read_revocation
from client.intake.grpc.revoking import Recorded, Revoker
from client.intake.grpc_api import consent_pb2 as messages
from client.intake.permission import permissions_of
from client.membership.setup import SiteRequest, create_site
from client.revocations.opening import open_ledger
from client.revocations.revocation import State
from client.revocations.tombstones.file import TombstoneFile
from client.revocations.vault import Vault
from client.settings import SiteFolder
from common.errors import CohortError, DiskFullError, OutputError

DESK = Caller("desk", "steward", "ff" * 32)


class Hospital:
    """A ledger and the revoker in front of it."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        create_site(root, SiteRequest("north", "localhost", "0" * 64))
        names = ", ".join(f'"p-{number}": "train"' for number in range(40))
        (root / "site.json").write_text(f'{{"name": "north", "subsets": {{{names}}}}}')
        self.folder = SiteFolder(root)
        self.ledger = stack.enter_context(open_ledger(self.folder))
        self.vault = Vault(self.folder.vault, lambda size: b"s" * size)
        self.revoker = Revoker(self.ledger, permissions_of(self.ledger), self.vault)

    def call(self, patient: str, source: str = "", **more: Any) -> Any:
        request = messages.RevokeConsentRequest(patient=patient, source_id=source or f"form-{patient}", **more)
        return read_revocation(request, DESK, self.ledger.pseudonyms, datetime.now(UTC))

    def together(self, calls: Sequence[Any]) -> list[Any]:
        """Outcomes of calls in one group, in their order."""
        return [*self.revoker._record(calls)]

    def states(self, patient: str) -> list[State]:
        return [standing.state for standing in self.ledger.of_patient(patient)]


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    with ExitStack() as stack:
        yield Hospital(tmp_path / "north", stack)


def test_a_group_is_written_with_one_append_and_one_commit(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    appended: list[int] = []
    real = TombstoneFile.append

    def append(self: TombstoneFile, stones: Any) -> None:
        if stones:
            appended.append(len(stones))
        real(self, stones)

    monkeypatch.setattr(TombstoneFile, "append", append)
    outcomes = hospital.together([hospital.call(f"p-{number}") for number in range(10)])
    assert appended == [10]
    assert len({outcome.receipt.receipt for outcome in outcomes}) == 10
    assert all(hospital.ledger.is_stopped(f"p-{number}") for number in range(10))
    assert [event.seq for event in hospital.ledger.history(outcomes[3].receipt.receipt)] == [1, 2]


def test_each_call_of_a_group_gets_the_answer_that_it_would_get_alone(hospital: Hospital) -> None:
    first = hospital.together([hospital.call("p-9", "old")])[0]
    calls = [
        hospital.call("p-0"),
        hospital.call("stranger"),
        hospital.call("stranger-2", also_unknown=True),
        hospital.call("P-3", also_unknown=True),
        hospital.call("p-9", "new"),
        hospital.call("p-9", "old"),
        hospital.call("p-8", "old"),
        hospital.call("p-1", "twice"),
        hospital.call("p-1", "twice"),
        hospital.call("p-2", "a"),
        hospital.call("p-2", "b"),
    ]
    outcomes = hospital.together(calls)
    assert [type(outcome) for outcome in outcomes[:2]] == [Recorded, CohortError]
    assert (outcomes[2].receipt.unknown, outcomes[3].receipt.doubtful) == (1, 1)
    assert hospital.ledger.is_stopped("p-3")
    assert outcomes[4].receipt.receipt == first.receipt.receipt
    assert not outcomes[4].is_new
    assert (outcomes[5].receipt, outcomes[5].statuses) == (None, first.statuses)
    assert isinstance(outcomes[6], Refusal)
    assert outcomes[8].statuses == outcomes[7].statuses
    assert outcomes[10].receipt.receipt == outcomes[9].receipt.receipt
    for patient in ("p-0", "p-1", "p-2", "p-9"):
        assert hospital.states(patient) == [State.PENDING]
    assert hospital.states("p-8") == []
    assert not hospital.ledger.is_stopped("stranger")


def test_two_documents_from_one_source_in_one_group_are_not_mixed_up(hospital: Hospital) -> None:
    calls = [hospital.call("p-0", "scan", document=document) for document in (b"one", b"other", b"one")]
    for call in calls:
        if hospital.vault.opened(call.request.receipt) is None:
            hospital.vault.keep(call.request.receipt, call.document)
    outcomes = hospital.together(calls)
    assert [type(outcome) for outcome in outcomes] == [Recorded, Refusal, Recorded]
    kept = hospital.vault.opened(calls[0].request.receipt)
    assert kept is not None
    assert kept.document == b"one"
    assert hospital.ledger.of_patient("p-0")[0].source.digest == kept.commitment


def test_a_recorded_form_is_not_replaced_by_a_call_that_is_refused(hospital: Hospital) -> None:
    hospital.revoker.record(hospital.call("p-0", "scan", document=b"one"))
    with pytest.raises(Refusal, match="different document"):
        hospital.revoker.record(hospital.call("p-0", "scan", document=b"other"))
    (standing,) = hospital.ledger.of_patient("p-0")
    kept = hospital.vault.opened(standing.receipt)
    assert kept is not None
    assert (kept.document, kept.commitment) == (b"one", standing.source.digest)


@pytest.mark.parametrize("error", [DiskFullError("the disk is full"), OutputError("cannot be written")])
def test_a_group_that_cannot_be_written_tells_everybody_so_and_records_nobody(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("client.revocations.tombstones.file._add", refuse)
        outcomes = hospital.together([hospital.call(f"p-{number}") for number in range(3)])
    assert {type(outcome) for outcome in outcomes} == {type(error)}
    assert hospital.ledger.standing() == ()
    assert not hospital.ledger.is_stopped("p-0")
    assert isinstance(hospital.together([hospital.call("p-0")])[0], Recorded)


def test_one_call_at_which_the_ledger_fails_costs_no_other(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    real = hospital.ledger.named

    def named(patient: str, **more: Any) -> Any:
        if patient == "p-1":
            raise ZeroDivisionError
        return real(patient, **more)

    monkeypatch.setattr(hospital.ledger, "named", named)
    calls = [hospital.call(f"p-{number}") for number in range(3)]
    assert [type(outcome) for outcome in hospital.together(calls)] == [Recorded, ZeroDivisionError, Recorded]
    assert hospital.ledger.is_stopped("p-0")
    assert hospital.ledger.is_stopped("p-2")


def test_many_threads_get_their_own_receipts(hospital: Hospital) -> None:
    with ThreadPoolExecutor(16) as pool:
        recorded = [*pool.map(lambda number: hospital.revoker.record(hospital.call(f"p-{number}")), range(40))]
    receipts = [one.receipt.receipt for one in recorded if one.receipt is not None]
    assert len(set(receipts)) == 40
    for number, receipt in enumerate(receipts):
        assert [s.receipt for s in hospital.ledger.of_patient(f"p-{number}")] == [receipt]


def together_of(work: Callable[[Sequence[int]], Sequence[int | BaseException]], most: int = 64) -> Group[int, int]:
    return Group(work, most)


def test_while_a_group_is_at_work_the_next_one_gathers_and_nothing_is_done_twice() -> None:
    groups: list[list[int]] = []
    first_begun = threading.Event()
    go = threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        groups.append([*items])
        first_begun.set()
        assert go.wait(30)
        return [item * 2 for item in items]

    group = together_of(work, most=5)
    waiting = group._waiting
    with ThreadPoolExecutor(9) as pool:
        results = [pool.submit(group.do, 0)]
        assert first_begun.wait(30)
        results += [pool.submit(group.do, number) for number in range(1, 9)]
        while len(waiting) < 8:
            pass
        go.set()
        assert [result.result(30) for result in results] == [2 * number for number in range(9)]

    assert [len(some) for some in groups] == [1, 5, 3]
    assert sorted(item for some in groups for item in some) == [*range(9)]


def test_an_error_of_the_work_reaches_every_caller_and_the_next_group_works() -> None:
    def work(items: Sequence[int]) -> list[int | BaseException]:
        if 13 in items:
            raise ValueError("all")
        return [KeyError(item) if item == 7 else item for item in items]

    group = together_of(work)
    with pytest.raises(ValueError, match="all"):
        group.do(13)
    with pytest.raises(KeyError):
        group.do(7)
    assert group.do(1) == 1
