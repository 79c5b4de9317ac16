"""Kinds of revocations: what each records, that an opt-out stops use and leaves the model, and who takes part again."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import get_args

import pytest

from client.consent.kinds import KINDS, Kind
from client.console.words import SOURCES
from client.revocations.access import write_opened
from client.revocations.ledger import Ledger
from client.revocations.revocation import STATED_SOURCE, Request, SourceKind, State, StatedSource
from client.revocations.tombstones.tombstone import said_in
from client.revocations.workflow.campaign_steps import close, take_up
from client.revocations.workflow.readmission import everybody_of, readmit
from client.settings import SiteFolder
from common.errors import RefusedError
from common.platform.actor import Actor

Opening = Callable[[], AbstractContextManager[Ledger]]
RequestFactory = Callable[..., Request]
LEE = Actor("lee", "user:1000:lee")
FORM = ("ab" * 8, "cd" * 32)


def states(ledger: Ledger, receipt: str | None = None) -> list[State]:
    return [standing.state for standing in ledger.standing(receipt)]


def again(
    ledger: Ledger, receipt: str = "r-1", actor: Actor = LEE, reason: str = "opt-out taken back"
) -> tuple[int, int]:
    with ledger.writing() as writing:
        patients = everybody_of(writing, receipt)
        return readmit(ledger, writing, receipt, actor, reason, form=FORM, patients=patients or None)


@pytest.mark.parametrize(
    ("kind", "basis"),
    [("withdrawal", "GDPR 7(3)"), ("objection", "GDPR 21"), ("erasure", "GDPR 17"), ("opt-out", "not stated")],
)
def test_a_kind_has_its_own_legal_basis_unless_one_is_stated(
    ledger: Ledger, asked: RequestFactory, kind: Kind, basis: str
) -> None:
    ledger.record(asked("r-1", kind=kind), ["p-0"])
    ledger.record(asked("r-2", kind=kind, legal_basis="Gesetz 4"), ["p-1"])
    assert [(s.kind, s.legal_basis) for s in ledger.standing()] == [(kind, basis), (kind, "Gesetz 4")]


def test_an_opt_out_stops_use_at_once_and_leaves_the_model_as_it_is(ledger: Ledger, asked: RequestFactory) -> None:
    ledger.record(asked(kind="opt-out"), ["p-0", "p-5", "MRN-1"], also_unknown=True)
    assert states(ledger) == [State.USE_STOPPED, State.EVALUATION_ONLY, State.EXCLUDED]
    assert len(ledger.stopped()) == 3
    assert ledger.waiting() == (0, None)
    with ledger.writing() as writing:
        take_up(ledger, writing, 1, [ledger.pseudonyms.of("p-0")])
    assert close(ledger, [ledger.pseudonyms.of("p-0")], State.UNLEARNED) == 0


def test_an_opt_out_is_unlearned_only_where_site_toml_says_so(
    folder: SiteFolder, configure: Callable[..., None], opening: Opening, asked: RequestFactory
) -> None:
    configure()
    with folder.settings_file.open("a") as file:
        file.write("[opt_out]\nunlearn = true\n")
    with opening() as ledger:
        ledger.record(asked(kind="opt-out"), ["p-0"])
        assert states(ledger) == [State.PENDING]


def test_a_withdrawal_after_an_opt_out_is_one_and_an_opt_out_after_a_withdrawal_adds_nothing(
    ledger: Ledger, asked: RequestFactory
) -> None:
    ledger.record(asked("r-1", kind="opt-out"), ["p-0"])
    assert ledger.record(asked("r-2"), ["p-0"]).receipt == "r-2"
    assert states(ledger) == [State.USE_STOPPED, State.PENDING]
    assert ledger.record(asked("r-3", kind="opt-out"), ["p-0"]).receipt == "r-1"
    again(ledger, "r-1")
    assert ledger.record(asked("r-4", kind="opt-out"), ["p-0"]).receipt == "r-2"
    assert ledger.is_stopped("p-0")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [None, State.UNLEARNED, State.RETRAINED])
def test_who_is_readmitted_may_be_used_and_what_was_forgotten_is_not_undone(
    ledger: Ledger, asked: RequestFactory, kind: Kind, end: State | None
) -> None:
    ledger.record(asked(kind=kind), ["p-0"])
    if end is not None and kind != "opt-out":
        close(ledger, [ledger.pseudonyms.of("p-0")], end, campaign=3, model="ab")
    assert again(ledger) == (1, 0)
    assert not ledger.is_stopped("p-0")
    last = ledger.history("r-1")[-1]
    assert (last.state, last.actor, last.identity) == (State.READMITTED, "lee", "user:1000:lee")
    assert re.fullmatch(rf"opt-out taken back \(form {FORM[0]}, commitment {FORM[1]}\)", last.reason)
    assert ledger.waiting().number == 0
    # The same patient may revoke again, as somebody new.
    assert ledger.record(asked("r-2"), ["p-0"]).receipt == "r-2"
    assert ledger.is_stopped("p-0")
    assert states(ledger, "r-2") == [State.PENDING]


def test_a_readmission_lifts_one_receipt_alone(ledger: Ledger, asked: RequestFactory) -> None:
    ledger.record(asked("r-1", kind="opt-out"), ["p-0", "p-1"])
    ledger.record(asked("r-2"), ["p-1"])
    assert again(ledger) == (2, 1)
    assert (ledger.is_stopped("p-0"), ledger.is_stopped("p-1")) == (False, True)


def test_nobody_is_readmitted_without_a_name_or_a_reason_twice_or_while_a_campaign_may_read_them(
    ledger: Ledger, asked: RequestFactory
) -> None:
    ledger.record(asked(kind="opt-out"), ["p-0"])
    ledger.record(asked("r-2"), ["p-1"])
    for actor, reason in ((Actor(" "), "why"), (LEE, " ")):
        with pytest.raises(RefusedError):
            again(ledger, "r-1", actor, reason)

    with ledger.writing() as writing:
        take_up(ledger, writing, 1, [ledger.pseudonyms.of("p-1")])
    with pytest.raises(RefusedError):
        again(ledger, "r-2")
    with ledger.writing() as writing:
        write_opened(writing.session, 1, 1, ledger.clock())
    with pytest.raises(RefusedError, match="campaign 1"):
        again(ledger, "r-1")
    with ledger.writing() as writing:
        writing.session.rollback()


def test_a_readmission_is_not_undone_by_a_restored_tombstone_file(
    folder: SiteFolder, opening: Opening, asked: RequestFactory
) -> None:
    with opening() as ledger:
        ledger.record(asked(kind="opt-out"), ["p-0"])
        before = folder.tombstones.read_bytes()
        again(ledger)

    folder.tombstones.write_bytes(before)
    with opening() as ledger:
        assert not ledger.is_stopped("p-0")


def test_what_is_restored_from_its_tombstone_keeps_its_kind_its_basis_and_its_recorder(
    folder: SiteFolder, opening: Opening, asked: RequestFactory
) -> None:
    said = {"kind": "opt-out", "legal_basis": "Gesetz § 4 & 5", "steward": "Dr. Müller; =x", "identity": LEE.identity}
    with opening() as ledger:
        ledger.record(asked(**said), ["p-0"])
        (stone,) = (ledger.stones.read() or {}).values()
        assert said_in(stone)["steward"] == said["steward"]

    for path in folder.root.glob("revocations.db*"):
        path.unlink()
    with opening() as ledger:
        (restored,) = ledger.standing()
        found = {name: getattr(restored, name) for name in said}
        assert (found, restored.state, restored.source.kind) == (said, State.USE_STOPPED, "restored")
        assert ledger.history("r-1")[0].actor == said["steward"]


def test_a_tombstone_of_an_earlier_release_is_a_withdrawal(
    folder: SiteFolder, opening: Opening, asked: RequestFactory, tmp_path: Path
) -> None:
    with opening() as ledger:
        ledger.record(asked(), ["p-0"])
        (stone,) = (ledger.stones.read() or {}).values()
        folder.tombstones.unlink()
        ledger.stones.append([stone.__class__(stone.kind, stone.pseudonym, stone.receipt, stone.received)])

    for path in folder.root.glob("revocations.db*"):
        path.unlink()
    with opening() as ledger:
        (restored,) = ledger.standing()
        assert (restored.kind, restored.legal_basis, restored.state) == ("withdrawal", "GDPR 7(3)", State.PENDING)


def test_every_source_has_a_name_in_signed_statements_and_a_command_line_is_no_list() -> None:
    assert STATED_SOURCE.keys() == set(get_args(SourceKind))
    assert set(STATED_SOURCE.values()) == set(get_args(StatedSource))
    assert STATED_SOURCE["cli"] == STATED_SOURCE["grpc"] == "form"


def test_the_console_has_a_name_for_every_source() -> None:
    assert SOURCES.keys() == set(get_args(SourceKind))
