"""The page of qualifications: the plan, how far the rehearsals are, each part of the rule, and what an operator may."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from common.learning.evaluation.qualification.plan import QualificationPlan
from common.learning.evaluation.qualification.rule import BranchResult, Finding, Qualification, UtilityResult
from common.learning.evaluation.qualification.validity import Circumstances
from common.learning.model.checkpoint import ModelCard
from server.campaign.qualification.description import store_of
from server.campaign.qualification.register import Register
from server.campaign.qualification.result import Result
from server.cli import app
from server.console.desk import AUDITOR, OPERATOR, Desk
from server.console.drawing import differences
from server.registry.manifest import Provenance

from .conftest import BoardWorld
from .test_board import events, text

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PLAN = QualificationPlan(rehearsals=48, sizes=(1, 5))
BRANCH = BranchResult(
    difference=0.012, low=-0.03, high=0.051, original=0.2, original_low=0.15, nearer=0.1, nearer_low=0.05, known=2,
    over_forgotten=1, share_bound=0.05, sensitive=True,
)  # fmt: skip


def published(board: BoardWorld, card: ModelCard) -> str:
    facts = Provenance(round=1, run=None, code="test", config="c" * 64, sites=("north", "south"))
    return board.house.registry.publish(
        card.build(0).state_dict(), card, parent=None, campaign=None, provenance=facts
    ).name


def result(*, qualified: bool) -> Result:
    there = Circumstances(
        configuration="c", lineage="v0001", aggregation="auto", sites=("north", "south"), labels=(0, 1),
        train_patients=400, at=NOW,
    )  # fmt: skip
    register = Register(
        plan=PLAN, circumstances=there, parent="ab" * 32, attempt=1, retention_rounds=1, rehearsals=(), registered=NOW
    )
    verdict = Qualification(
        qualified=qualified,
        rehearsals=48,
        patients=144,
        sizes=(1, 5),
        controls=120,
        level=0.05,
        branches={"image": BRANCH, "text": BRANCH, "fused": BRANCH},
        utility=(UtilityResult(site="", label=1, loss=0.0, bound=0.02),),
        findings=() if qualified else (Finding(part="Q3", text="there is <b>too little</b> memory to measure"),),
        distances=(0.1,),
    )
    return Result(registered=register, qualification=verdict, processes=(), refused={3: "late"}, cost={}, finished=NOW)


def test_an_operator_reads_the_plan_begins_follows_the_waves_and_stops_with_a_reason(
    board: BoardWorld, card: ModelCard
) -> None:
    name = published(board, card)
    operator = board.signed_in("lee", OPERATOR)
    page = text(operator.get("/qualification"))
    assert "48 (patients of each, in turn: 1, 5, 9)" in page
    assert f"0 of 1 with the models that descend from {name}" in page

    # A setting that somebody changed by the command line counts at once.
    root = str(board.house.folder.root)
    for audit, rehearsals in (("0", "48"), ("2", "40")):
        pairs = ["experiment.folds.audit", audit, "qualification.rehearsals", rehearsals]
        assert CliRunner().invoke(app, ["settings", "set", *pairs, "--dir", root]).exit_code == 0
        if audit == "0":
            assert "no audit fold models" in operator.post("/qualification", status=400)
            assert store_of(board.house).numbers() == []
    assert "40 (patients of each" in text(operator.get("/qualification"))
    assert "The qualification begins." in operator.post("/qualification")
    store = store_of(board.house)
    before = Desk(board.house).newest()
    store.stand(1, waves=2, of=5, seconds_left=130.0)
    assert Desk(board.house).newest() != before
    part = operator.get("/qualification/1/part")
    assert "Wave 2 of 5, about 3 min left" in text(part)
    assert 'value="2" max="5"' in part
    store.stand(1, waits="campaign 3 is open")
    assert "waits: campaign 3 is open" in text(operator.get("/qualification/1/part"))
    assert "Begin a qualification" not in operator.get("/qualification")

    operator.get("/qualification/1")
    assert "Give a reason." in operator.post("/qualification/1/stop", status=400)
    operator.get("/qualification/1")
    page = text(operator.post("/qualification/1/stop", reason="other settings"))
    assert "Stopped other settings" in page
    operator.get("/qualification")
    assert "has ended" in operator.post("/qualification/1/stop", reason="again", status=400)
    assert {"console-qualification-asked", "console-qualification-stopped"} <= set(events(board))


def test_an_auditor_reads_and_neither_begins_nor_stops(board: BoardWorld, card: ModelCard) -> None:
    auditor = board.signed_in("weber", AUDITOR)
    page = text(auditor.get("/qualification"))
    assert "There is no model to rehearse with." in page
    assert "The procedure was never rehearsed" in page
    for path in ("/qualification/7", "/qualification/x", "/qualification/-1/part"):
        assert "Problem" in text(auditor.get(path, status=400)), path
    published(board, card)
    store_of(board.house).request(PLAN, "v0001")
    page = auditor.get("/qualification/1")
    assert "Rehearses" in page
    assert "Stop it" not in page
    assert auditor.send("/qualification").status_code == 403
    assert auditor.send("/qualification/1/stop", reason="x").status_code == 403


def test_a_result_is_shown_by_each_part_of_the_rule_with_intervals_and_a_picture(board: BoardWorld) -> None:
    store = store_of(board.house)
    auditor = board.signed_in("weber", AUDITOR)
    for qualified in (True, False):
        number = store.request(PLAN, f"v000{2 - qualified}")
        store.journal(number).put("result", result(qualified=qualified))
        page = auditor.get(f"/qualification/{number}")
        words = text(page)
        assert ("Qualified" if qualified else "Did not qualify") in words
        assert "144 rehearsed, compared with 120 never seen" in words
        assert "-0.030 – +0.051" in words
        assert page.count("does not hold") == (0 if qualified else 1)
        assert page.count('stroke-width="3"') == 3
        assert "<b>too little" not in page
        assert "data-live" not in page


def test_the_band_and_zero_stand_in_the_middle_of_all_intervals() -> None:
    picture = differences({"fused": (0.05, -0.4, 0.1, 0.3)}, 0.1)
    assert picture.band_low < picture.zero < picture.band_high
    (row,) = picture.rows
    assert 90 <= row.low < row.value < row.high <= 640
    assert row.low < picture.band_low
    assert picture.scale == pytest.approx(0.44)
