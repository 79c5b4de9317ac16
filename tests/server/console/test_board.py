"""The coordinator's console: every page for every role, what an operator may decide, and what is kept on record."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest
from console_attacks import check_addresses, check_forms_from_elsewhere, check_headers, check_roles
from console_world import Browser
from sqlalchemy import select, update

from common.learning.model.checkpoint import ModelCard
from common.platform.sql import reading, transaction
from server.attestation.event_log import follow, server_log
from server.console.board import board_pages, menu
from server.console.desk import AUDITOR, OPERATOR, Desk
from server.console.pages.models import lineage
from server.database import EventRow, SiteRow
from server.registry.manifest import Metric, Provenance
from server.settings import ServerFolder

from .conftest import BoardWorld


def text(page: str) -> str:
    """The words of a page."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def events(board: BoardWorld) -> list[str]:
    with reading(board.house.engine) as session:
        return [row.kind for row in session.scalars(select(EventRow).order_by(EventRow.id))]


def planned(board: BoardWorld) -> int:
    return board.house.store.plan(
        "training", board.house.terms.model_dump(mode="json"), parent=None, due=None, reason="asked for"
    )


def test_every_page_opens_for_both_roles_and_names_what_is_there(board: BoardWorld) -> None:
    number = planned(board)
    for name, role in (("lee", OPERATOR), ("weber", AUDITOR)):
        browser = board.signed_in(name, role)
        assert "Revocations that wait" in browser.get("/")
        assert "north" in browser.get("/sites")
        assert "Signing key" in browser.get("/sites/north")
        assert "Planned" in text(browser.get("/campaigns"))
        assert "waits for the coordinator to start it" in browser.get(f"/campaigns/{number}")
        assert "There is no version yet." in browser.get("/models")
        assert "None." in browser.get("/attestations")
        assert "policy.window_hours" in browser.get("/policy")
        assert "enrolled" in browser.get("/log?site=north")
        assert "Health" in browser.get("/health")
        assert "People" in text(browser.get("/people"))


def test_an_auditor_decides_nothing_and_a_stranger_sees_nothing(board: BoardWorld) -> None:
    number = planned(board)
    desk = Desk(board.house)
    auditor = board.signed_in("weber", AUDITOR)
    stranger = board.browser()
    auditor.get("/")
    for page in board_pages(desk):
        path = page.path.format(name="north", number=number, subject="x")
        if page.method == "POST" and path not in ("/health", "/log/verify"):  # they change nothing
            assert auditor.send(path, reason="x", step="exclude").status_code == 403, path
        if page.method == "GET":
            answer = stranger.client.get(path, follow_redirects=False)
            assert answer.status_code == 303, path
            assert answer.headers["location"].startswith("/sign-in"), path
    assert board.house.store.get(number).state == "planned"
    with reading(board.house.engine) as session:
        assert session.get_one(SiteRow, "north").state == "active"


def test_every_route_admits_exactly_its_roles(board: BoardWorld) -> None:
    browsers = {role: board.signed_in(role, role) for role in (OPERATOR, AUDITOR)}
    admitted = check_roles(board, browsers, {"name": "north", "number": planned(board), "subject": "none"})
    assert admitted["GET /log"] == {OPERATOR, AUDITOR}
    assert admitted["POST /campaigns/{number}/cancel"] == {OPERATOR}
    assert admitted["POST /sites/{name}"] == {OPERATOR}
    assert admitted["POST /people/invite"] == {OPERATOR}


def test_no_form_is_taken_from_elsewhere_and_no_address_leads_outside(board: BoardWorld) -> None:
    number = planned(board)
    operator = board.signed_in("lee", OPERATOR, AUDITOR)
    values = {"name": "north", "number": number, "subject": "none"}
    assert check_forms_from_elsewhere(board, operator, values) >= 15
    assert board.house.store.get(number).state == "planned"
    assert check_addresses(board, operator) >= 20
    assert check_headers(board, operator, values) >= 20


def test_an_operator_cancels_a_campaign_with_a_reason_and_it_is_on_record(board: BoardWorld) -> None:
    number = planned(board)
    browser = board.signed_in("lee", OPERATOR)
    browser.get(f"/campaigns/{number}")
    assert "Give a reason." in browser.post(f"/campaigns/{number}/cancel", status=400)
    browser.get(f"/campaigns/{number}")
    assert "Cancelled" in text(browser.post(f"/campaigns/{number}/cancel", reason="sent by mistake"))
    assert board.house.store.get(number).state == "cancelled"
    assert "console-campaign-cancelled" in events(board)


def test_deciding_asks_for_a_fresh_sign_in(board: BoardWorld) -> None:
    number = planned(board)
    browser = board.signed_in("lee", OPERATOR)
    board.clock.move(minutes=6)
    browser.get(f"/campaigns/{number}")
    assert "Sign in again" in browser.post(f"/campaigns/{number}/cancel", reason="x")
    assert board.house.store.get(number).state == "planned"


def test_a_suspended_hospital_is_readmitted_and_an_excluded_one_is_not(board: BoardWorld) -> None:
    with transaction(board.house.engine) as session:
        session.get_one(SiteRow, "north").state = "suspended"
    browser = board.signed_in("lee", OPERATOR)
    browser.get("/sites/north")
    assert "Takes part" in text(browser.post("/sites/north", step="readmit", reason="its disk was replaced"))
    assert "Excluded" in text(browser.post("/sites/south", step="exclude", reason="left"))
    browser.get("/sites/north")
    assert browser.send("/sites/south", step="readmit", reason="came back").status_code >= 400
    kinds = events(board)
    assert {"console-site-readmit", "console-site-exclude", "console-signed-in"} <= set(kinds)


def test_a_campaign_cannot_be_planned_without_a_model_or_somebody_who_waits(board: BoardWorld) -> None:
    browser = board.signed_in("lee", OPERATOR)
    browser.get("/campaigns")
    assert "There is no model yet." in browser.post("/campaigns", status=400)


@pytest.mark.parametrize("path", ["/sites/nobody", "/campaigns/99", "/campaigns/x", "/models/v9999", "/campaigns/-1"])
def test_an_address_of_nothing_gives_one_clear_line(board: BoardWorld, path: str) -> None:
    browser = board.signed_in("lee", OPERATOR)
    page = browser.get(path, status=400)
    assert "Traceback" not in page
    assert "Problem" in text(page)


def test_what_a_hospital_or_a_person_writes_runs_nowhere(board: BoardWorld) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    with transaction(board.house.engine) as session:
        session.get_one(SiteRow, "north").version = evil
        session.add(EventRow(at=board.clock(), site="north", kind="late", detail=evil))
    number = planned(board)
    board.house.store.postpone(number, 0, evil, board.clock())
    browser = board.signed_in("lee", OPERATOR)
    for path in ("/", "/sites", "/sites/north", f"/campaigns/{number}", "/log", f"/log?site={evil}&kind={evil}"):
        page = browser.get(path)
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path


def test_the_database_address_with_a_password_is_hidden(board: BoardWorld) -> None:
    browser = board.signed_in("lee", OPERATOR)
    assert "database" in browser.get("/policy")


def test_the_menu_leads_to_pages_that_exist(board: BoardWorld) -> None:
    paths = {page.path for page in board_pages(Desk(board.house))}
    assert {item.path for item in menu()} <= paths


def test_a_version_with_two_children_gets_a_lane_for_the_second() -> None:
    from types import SimpleNamespace

    versions = [
        SimpleNamespace(name=name, parent=parent, state="active")
        for name, parent in (("v1", None), ("v2", "v1"), ("v3", "v2"), ("v4", "v1"))
    ]
    nodes = {node.name: node for node in lineage(versions)}  # type: ignore[arg-type]
    assert [nodes[name].lane for name in ("v1", "v2", "v3", "v4")] == [0, 0, 0, 1]
    assert nodes["v4"].row == 0
    assert nodes["v3"].parent_row == nodes["v2"].row


def test_published_versions_are_drawn_with_their_figures_and_withdrawn_with_a_reason(
    board: BoardWorld, card: ModelCard
) -> None:
    registry = board.house.registry
    membership = Metric(name="membership AUC, fused", value=0.53, low=0.44, high=0.62, patients=31)
    missing = Metric(name="membership AUC, text", value=None, missing="nobody was forgotten")
    facts = Provenance(
        round=1, run=None, code="0.2.0", config="c" * 64, sites=("north",), metrics=(membership, missing)
    )
    first = registry.publish(card.build(0).state_dict(), card, parent=None, campaign=None, provenance=facts)
    number = planned(board)
    second = registry.publish(card.build(1).state_dict(), card, parent=first.name, campaign=number, provenance=facts)
    board.house.store.publish(number, second.name)

    browser = board.signed_in("lee", OPERATOR)
    page = browser.get("/models")
    assert page.count("<circle") == 2
    assert page.count("<line") == 1
    page = browser.get(f"/models/{second.name}")
    assert "0.530" in page
    assert "0.440 – 0.620" in page
    assert "nobody was forgotten" in page
    assert 'x1="243.2"' in page
    assert "0.530" in browser.get(f"/campaigns/{number}")
    assert f"/models/{second.name}" in browser.get("/")

    browser.get(f"/models/{second.name}")
    assert "Withdrawn" in text(browser.post(f"/models/{second.name}/withdraw", reason="may hold a backdoor"))
    assert registry.get(second.name).state == "withdrawn"
    assert "console-version-withdrawn" in events(board)


def test_the_process_cannot_read_a_signing_key(coordinator: ServerFolder) -> None:
    code = """
import sys
from pathlib import Path
from common.platform.console.hidden import hide
from server.console.keys import keys_of
from server.settings import ServerFolder
folder = ServerFolder(Path(sys.argv[1]))
print(hide(keys_of(folder)))
for path in (folder.signing_key, folder.ca_key, folder.key, folder.passphrase, folder.superexec_secret):
    try:
        print(len(path.read_bytes()))
    except OSError:
        print(0)
import server.console.service
"""
    assert coordinator.signing_key.stat().st_size > 0
    command = [sys.executable, "-c", code, str(coordinator.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split()[1:] == ["0"] * 5


def wait_for(browser: Browser, words: str) -> str:
    """The part of the log that follows the check, once it has ended."""
    deadline = time.monotonic() + 60
    while "Checking" in (part := browser.get("/log/part")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert words in part
    return part


def test_the_log_is_compared_with_the_events_and_a_change_of_one_is_found(board: BoardWorld) -> None:
    auditor = board.signed_in("weber", AUDITOR)
    auditor.get("/log")
    auditor.post("/log/verify")
    wait_for(auditor, "the log is empty")

    follow(board.house.engine, server_log(board.house.store.clock), board.house.signing_key())
    auditor.get("/log")
    auditor.post("/log/verify")
    wait_for(auditor, "everything holds")

    with transaction(board.house.engine) as session:
        session.execute(update(EventRow).where(EventRow.id == 1).values(detail="nothing happened"))
    auditor.get("/log")
    auditor.post("/log/verify")
    assert "event 1 was changed after it was logged" in wait_for(auditor, "does not hold")


def test_settings_with_a_password_in_an_address_are_hidden_and_an_address_is_shown(board: BoardWorld) -> None:
    lines = 'evaluator_key = "http://user:s3cret@evaluator.example/key"\n'
    settings_file = board.house.folder.settings_file
    settings_file.write_text(lines + settings_file.read_text())
    browser = board.signed_in("weber", AUDITOR)
    page = browser.get("/policy")
    assert "(hidden)" in page
    assert "s3cret" not in page
    assert "https://console.test" in page
    names = re.findall(r"<td><code>([^<]+)</code>", page)
    assert names[0].startswith(("gate.", "policy."))
