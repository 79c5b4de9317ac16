"""Identifiers that look like a patient's: use stops at once, and a person says who is meant."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from client.account.summary import summarised
from client.revocations.ledger import Ledger
from client.revocations.look_alikes.doubtful import answer, doubts, hold_unheard
from client.revocations.look_alikes.ending_holds import PersonDecision
from client.revocations.revocation import Request, State
from client.revocations.workflow.decisions import hold, refuse, release
from client.settings import SiteFolder
from common.errors import InputError, RefusedError
from common.platform.actor import Actor

SETS = {"000003": "train", "000004": "train", "MRN-7": "test", "Mu\u0308ller-1": "train", "12345678901234567": "train"}
Ask = Callable[..., Request]
Opening = Callable[[], AbstractContextManager[Ledger]]


@pytest.fixture
def site(folder: SiteFolder, opening: Opening) -> Iterator[Ledger]:
    (folder.root / "site.json").write_text(json.dumps({"name": "north", "subsets": SETS}), encoding="utf-8")
    with opening() as ledger:
        yield ledger


def states(ledger: Ledger, patient: str) -> list[State]:
    return [standing.state for standing in ledger.of_patient(patient)]


def test_a_look_alike_is_on_hold_with_all_whom_it_may_mean_and_the_receipt_counts_it(site: Ledger, asked: Ask) -> None:
    receipt = site.record(asked(), ["000004", "3", "stranger"], also_unknown=True)
    assert (receipt.patients, receipt.known, receipt.unknown, receipt.doubtful) == (3, 1, 1, 1)
    assert "1 look like patients here" in receipt.note
    assert states(site, "000004") == [State.PENDING]
    assert states(site, "000003") == states(site, "3") == [State.ON_HOLD]
    assert states(site, "stranger") == [State.EXCLUDED]
    assert all(site.is_stopped(patient) for patient in ("000003", "000004", "3", "stranger"))
    (summary,) = summarised(site.standing("r-1"))
    assert (summary.is_open, summary.known, summary.doubtful, summary.patients) == (True, 1, 1, 3)
    assert site.waiting().number == 1


def test_a_look_alike_is_heard_also_where_unknown_patients_are_not_recorded(site: Ledger, asked: Ask) -> None:
    assert site.record(asked(), ["mrn7"]).doubtful == 1
    assert site.is_stopped("MRN-7")


def test_strangers_alone_are_said_to_be_strangers(site: Ledger, asked: Ask) -> None:
    receipt = site.record(asked(), ["x", "y"], also_unknown=True)
    assert (receipt.known, receipt.unknown, receipt.doubtful) == (0, 2, 0)
    assert receipt.note.startswith("0 of 2 known here")


@pytest.mark.parametrize("spelled", ["M\u00fcller-1", "Mu\u0308ller-1", "\ufeffM\u00fcller-1\u00a0"])
def test_the_normal_form_is_a_match_also_where_the_cohort_has_another_one(
    site: Ledger, asked: Ask, spelled: str
) -> None:
    assert site.record(asked(), [spelled]).known == 1
    assert states(site, "Mu\u0308ller-1") == [State.PENDING]
    assert site.knows(spelled)
    assert site.is_stopped(spelled)


def test_who_is_meant_has_revoked_with_the_dates_of_the_list(site: Ledger, asked: Ask) -> None:
    request = asked(requester="guardian", policies=("p-1",))
    site.record(request, ["3"], also_unknown=True)
    (doubt,) = doubts(site)
    assert doubt.revocation.receipt == "r-1"
    answer(site, doubt.number, [doubt.candidates[0].number], PersonDecision(Actor("lee"), "same birth date"))
    first, second = site.of_patient("000003")
    assert (first.state, second.state, second.receipt) == (State.REFUSED, State.PENDING, "r-1")
    assert (second.received, second.requester, second.policies) == (request.received, "guardian", ("p-1",))
    assert states(site, "3") == [State.EXCLUDED]
    assert doubts(site) == ()
    assert site.is_stopped("000003")
    assert site.is_stopped("3")


def test_a_stranger_ends_the_hold_and_stays_out_of_later_imports(site: Ledger, asked: Ask) -> None:
    site.record(asked(), ["3"], also_unknown=True)
    (doubt,) = doubts(site)
    answer(site, doubt.number, [], PersonDecision(Actor("lee"), "another birth date"))
    assert not site.is_stopped("000003")
    assert site.is_stopped("3")
    assert states(site, "3") == [State.EXCLUDED]
    assert site.record(asked("r-2"), ["3"], also_unknown=True).receipt == "r-1"
    assert not site.is_stopped("000003")


def test_a_stranger_s_answer_does_not_close_a_revocation_of_a_patient_who_was_trained_on(
    site: Ledger, asked: Ask
) -> None:
    site.record(asked("r-0"), ["000003"])
    hold(site, "r-0", Actor("lee"), "asked back")
    site.record(asked(), ["3"], also_unknown=True)
    for doubt in doubts(site):
        answer(site, doubt.number, [], PersonDecision(Actor("lee"), "another birth date"))

    assert State.EXCLUDED not in states(site, "000003")
    assert site.is_stopped("000003")


def test_of_several_who_may_be_meant_one_is_and_the_others_are_used_again(
    folder: SiteFolder, opening: Opening, asked: Ask
) -> None:
    sets = {"0003": "train", "003": "train", "4": "train"}
    (folder.root / "site.json").write_text(json.dumps({"name": "north", "subsets": sets}), encoding="utf-8")

    with opening() as ledger:
        ledger.record(asked(), ["3"], also_unknown=True)
        (doubt,) = doubts(ledger)
        assert len(doubt.candidates) == 2
        names = ledger.identifiers()
        meant = next(one for one in doubt.candidates if names[one.pseudonym] == "003")
        answer(ledger, doubt.number, [meant.number], PersonDecision(Actor("lee"), "seen"))
        assert ledger.is_stopped("003")
        assert not ledger.is_stopped("0003")


def test_an_answer_that_fits_no_doubt_changes_nothing(site: Ledger, asked: Ask) -> None:
    site.record(asked(), ["3"], also_unknown=True)
    (doubt,) = doubts(site)
    before = site.standing()
    with pytest.raises(InputError, match="no such doubt"):
        answer(site, "alike-r-9", [], PersonDecision(Actor("lee"), "x"))
    with pytest.raises(InputError, match="no such candidate"):
        answer(site, doubt.number, [999], PersonDecision(Actor("lee"), "x"))
    for said in (PersonDecision(Actor(" "), "x"), PersonDecision(Actor("lee"), " ")):
        with pytest.raises(RefusedError, match="a name and a reason"):
            answer(site, doubt.number, [], said)

    assert site.standing() == before


def test_no_other_decision_closes_a_doubt(site: Ledger, asked: Ask) -> None:
    site.record(asked(), ["3"], also_unknown=True)
    (doubt,) = doubts(site)
    before = site.standing()

    for receipt in ("r-1", doubt.number):
        for decide in (refuse, release, hold):
            with pytest.raises(RefusedError, match="who is meant"):
                decide(site, receipt, Actor("lee"), "x")

    assert site.standing() == before


def test_a_database_that_lost_the_doubt_gets_it_back_from_the_tombstones_as_a_doubt(
    folder: SiteFolder, opening: Opening, site: Ledger, asked: Ask
) -> None:
    site.record(asked(), ["000004"])
    database = next(path for path in folder.root.glob("*.db"))
    backup = database.read_bytes()
    site.record(asked("r-2"), ["3"], also_unknown=True)
    site.engine.dispose()
    for path in folder.root.glob(f"{database.name}*"):
        path.unlink()
    database.write_bytes(backup)
    with opening() as ledger:
        (doubt,) = doubts(ledger)
        assert states(ledger, "000003") == states(ledger, "3") == [State.ON_HOLD]
        answer(ledger, doubt.number, [], PersonDecision(Actor("lee"), "another"))
        assert not ledger.is_stopped("000003")
        assert ledger.is_stopped("3")


def test_whom_a_later_import_brings_is_held_when_they_look_like_somebody_recorded_before(
    site: Ledger, asked: Ask
) -> None:
    site.record(asked(), ["0815"], also_unknown=True)
    assert hold_unheard(site, ["815", "816"]) == 1
    assert states(site, "815") == [State.ON_HOLD]
    assert site.is_stopped("815")
    assert hold_unheard(site, ["815", "816"]) == 0
    (doubt,) = doubts(site)
    answer(site, doubt.number, [], PersonDecision(Actor("lee"), "another person"))
    assert not site.is_stopped("815")
    assert hold_unheard(site, ["815"]) == 0


def test_two_whom_the_site_knows_under_two_identifiers_are_two(site: Ledger, asked: Ask, folder: SiteFolder) -> None:
    (folder.root / "site.json").write_text(json.dumps({"name": "n", "subsets": {"03": "train", "3": "train"}}))
    site.record(asked(), ["03"])
    assert hold_unheard(site, ["03", "3"]) == 0
    assert not site.is_stopped("3")
