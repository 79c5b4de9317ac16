"""The page of trainings: rounds while they run and afterwards, curves with a table, and an operator's training."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from console_world import Clock

from common.errors import OutputError
from server.campaign import curve as curve_module
from server.campaign.curve import STEP, Curve, CurveFile, read_curve
from server.console.desk import AUDITOR, OPERATOR, Desk
from server.console.drawing import chart
from server.rounds.states import CampaignState
from server.rounds.training import Round

from .conftest import BoardWorld
from .test_board import events, text

ROUNDS = [
    Round(phase="train", round=0, train_loss=1.25, agreed=1.4),
    Round(phase="train", round=1, train_loss=0.75, agreed=1.1, missing=("south",)),
    Round(phase="train", round=2, agreed=1.2),
]


def planned(board: BoardWorld, kind: str = "training") -> int:
    return board.house.store.plan(kind, board.house.terms.model_dump(mode="json"), parent=None, due=None, reason="x")


def write(board: BoardWorld, number: int) -> CurveFile:
    """What a training writes to its folder."""
    folder = board.house.store.folder(number)
    folder.mkdir(parents=True, exist_ok=True)
    curve = CurveFile(folder, board.clock)
    for record in ROUNDS:
        curve.note(record)
    return curve


def test_rounds_are_shown_while_a_training_runs_and_pages_that_follow_it_notice(board: BoardWorld) -> None:
    number = planned(board)
    browser = board.signed_in("weber", AUDITOR)
    assert "No round has ended yet." in browser.get("/training")
    before = Desk(board.house).newest()
    write(board, number)
    assert Desk(board.house).newest() != before
    page = browser.get(f"/training/{number}/part")
    assert "3 of at most 40" in text(page)
    assert page.count("<polyline") == 2
    assert "1.250" in page
    assert "1.100" in page
    assert "south" in text(page)
    assert "data-live" in browser.get("/training")
    for path in ("/training/99", "/training/x", "/training/-1/part", "/training/99999999999999999999"):
        assert "Problem" in text(browser.get(path, status=400)), path


def test_rounds_of_an_ended_training_stay_on_record_also_of_one_that_began_as_unlearning(board: BoardWorld) -> None:
    auditor = board.signed_in("weber", AUDITOR)
    number = planned(board, "unlearning")
    assert f'href="/training/{number}"' not in auditor.get("/training")
    curve = write(board, number).finished(1)
    store = board.house.store
    attempt = store.take_up(number)
    store.journal(number, attempt).put(STEP, curve)
    store.end(number, CampaignState.CANCELLED, "test")
    store.clean(number)
    assert read_curve(store.folder(number)) == Curve()
    assert f'href="/training/{number}"' in auditor.get("/training")
    page = auditor.get(f"/training/{number}")
    assert page.count("<polyline") == 2
    assert "the model that round 1 began with" in text(page)
    assert re.search(r"1 <span class=\"badge good\">.*?kept", page)


def test_an_operator_plans_a_training_after_a_fresh_sign_in_and_an_auditor_does_not(board: BoardWorld) -> None:
    operator = board.signed_in("lee", OPERATOR)
    assert "Plan a training" in operator.get("/training")
    assert "The training is planned." in operator.post("/training")
    assert board.house.store.get(1).reason == "asked for at the console"
    assert "console-training-planned" in events(board)
    assert "Plan a training" not in operator.get("/training")
    assert "A campaign is open" in operator.post("/training", status=400)
    auditor = board.signed_in("weber", AUDITOR)
    assert "Plan a training" not in auditor.get("/training")
    assert auditor.send("/training").status_code == 403

    board.house.store.end(1, CampaignState.CANCELLED, "test")
    board.clock.move(minutes=6)
    operator.get("/training")
    assert "Sign in again" in operator.post("/training")
    assert board.house.store.open() is None


def test_a_resumed_training_keeps_the_times_of_its_rounds(tmp_path: Path) -> None:
    clock = Clock()
    first = CurveFile(tmp_path, clock)
    first.note(ROUNDS[0])
    began = clock()
    clock.move(minutes=5)
    again = CurveFile(tmp_path, clock)
    for record in ROUNDS[:2]:
        again.note(record)
    assert [point.ended for point in again.finished(None).rounds] == [began, clock()]
    assert read_curve(tmp_path) == again.finished(None)


def test_a_full_disk_costs_a_training_nothing_and_a_damaged_file_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutputError("no space left")

    monkeypatch.setattr(curve_module, "write_text", full)
    curve = CurveFile(tmp_path, Clock())
    curve.note(ROUNDS[0])
    assert len(curve.finished(0).rounds) == 1
    (tmp_path / "curve.json").write_text("{")
    assert read_curve(tmp_path) == Curve()


def test_curves_without_two_values_are_not_drawn_and_a_flat_one_lies_in_the_middle() -> None:
    assert chart([], {"training": []}) is None
    assert chart([0, 1], {"training": [1.0, None]}) is None
    flat = chart([0, 1, 2], {"training": [0.5, 0.5, 0.5], "validation": [None, None, None]})
    assert flat is not None
    (line,) = flat.lines
    assert {y for _, y in line.points} == {99.0}
    assert len(chart(range(1000), {"training": [float(n) for n in range(1000)]}).across) <= 12  # type: ignore[union-attr]
