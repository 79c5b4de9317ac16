"""The coordinator's console in a real browser: axe finds nothing, its policy holds, and every page fits its window."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from console_attacks import EVIL
from console_browser import (
    CHROMIUM,
    Served,
    chromium,
    draw,
    findings,
    findings_narrow,
    is_framed,
    speak,
    start,
    too_wide,
    until_checked,
    watched,
)
from playwright.sync_api import Browser
from typer.testing import CliRunner

from common.learning.model.checkpoint import ModelCard
from common.platform.console.settings import LANGUAGES
from common.platform.sql import transaction
from server.campaign.qualification.description import store_of
from server.cli import app
from server.database import EventRow, SiteRow

from .conftest import BoardWorld
from .test_qualification_page import PLAN, published, result
from .test_training_page import write

PAGES = (
    "/",
    "/sites",
    "/sites/north",
    "/campaigns",
    "/campaigns/1",
    "/models",
    "/training",
    "/training/1",
    "/qualification",
    "/qualification/1",
    "/attestations",
    "/policy",
    "/log",
    "/health",
    "/people",
    "/account",
)

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed: apt-get install chromium")


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def served(board: BoardWorld, card: ModelCard) -> Iterator[Served]:
    """The process of a coordinator with two hospitals, a training that runs, a qualification, and an operator."""
    root = board.house.folder.root
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for words in (["set", "console.port", str(port)], ["unset", "console.public_url"]):
        assert CliRunner().invoke(app, ["settings", *words, "--dir", str(root)]).exit_code == 0
    board.house.store.plan(
        "training", board.house.terms.model_dump(mode="json"), parent=None, due=None, reason="asked for"
    )
    write(board, 1)
    published(board, card)
    store = store_of(board.house)
    found = result(qualified=True)
    journal = store.journal(store.request(PLAN, "v0001"))
    journal.put("register", found.registered)
    journal.put("result", found)
    board.clock.move(minutes=-2)  # the code of the moment at which an account is made does not count again
    board.account("Ada Lee", ["operator"])
    secret = board.secrets["Ada Lee"]

    served = Served(root, f"http://127.0.0.1:{port}", start("server.console", root, port), secret)
    try:
        yield served
    finally:
        served.process.terminate()
        served.process.wait(60)


@pytest.mark.slow
def test_a_killed_console_of_the_coordinator_loses_nothing_and_everybody_signs_in_again(
    served: Served, board: BoardWorld, browser: Browser
) -> None:
    page = browser.new_context().new_page()
    served.sign_in(page)
    page.goto(f"{served.address}/campaigns/1")
    page.get_by_text("Cancel this campaign").click()
    page.fill("#cancel-reason", "planned by mistake")
    page.get_by_role("button", name="Cancel it").click()
    page.locator("main", has_text="planned by mistake").wait_for()
    served.process.send_signal(signal.SIGKILL)
    served.process.wait()
    served.process = start("server.console", served.root, int(served.address.rpartition(":")[2]))
    page.goto(f"{served.address}/campaigns/1")
    assert "/sign-in?next=" in page.url
    served.sign_in(page)
    page.goto(f"{served.address}/campaigns/1")
    assert "planned by mistake" in page.inner_text("main")
    assert board.house.store.get(1).state == "cancelled"


@pytest.mark.slow
def test_what_comes_from_outside_runs_on_no_page_of_the_coordinator_and_nobody_frames_one(
    served: Served, board: BoardWorld, browser: Browser
) -> None:
    # What a hospital and its software say, what a person gives as a reason, and what they call themselves.
    with transaction(board.house.engine) as session:
        session.get_one(SiteRow, "north").version = EVIL
        session.add(EventRow(at=board.clock(), site="north", kind="late", detail=EVIL))
    board.house.store.postpone(1, 0, EVIL, board.clock())
    board.account(EVIL[:60], ["auditor"])

    seen = watched(browser.new_context())
    page = seen.page
    page.on("dialog", lambda dialog: seen.messages.append(dialog.message))
    served.sign_in(page)
    shown = set()
    for path in PAGES:
        for query in ("", f"?site={EVIL}&kind={EVIL}&campaign={EVIL}&sort={EVIL}&page={EVIL}"):
            page.goto(served.address + path + query)
            page.wait_for_load_state("load")
            assert page.evaluate("window.ran") is None, path
            shown |= {path} if EVIL[:40] in page.inner_text("main") else set()

    assert {"/sites", "/sites/north", "/campaigns/1", "/log", "/people"} <= shown
    assert seen.messages == []
    assert not is_framed(browser, served.address)


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_of_the_coordinator_is_accessible_and_keeps_its_policy(
    served: Served, browser: Browser, theme: str, tmp_path: Path
) -> None:
    """With FEDFORGET_SCREENSHOTS=docs/images/consoles the pictures of the documentation are written again."""
    pictures = Path(os.environ.get("FEDFORGET_SCREENSHOTS", tmp_path))
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=theme)  # type: ignore[arg-type]
    seen = watched(context)
    page = seen.page
    served.sign_in(page)
    wrong = {}
    # Colours are the same in every language.
    for language in LANGUAGES if theme == "light" else ("en",):
        speak(page, served.address, language)
        for path in PAGES:
            answer = page.goto(served.address + path)
            assert answer is not None
            assert answer.ok, path
            assert "<code>" not in page.inner_text("body"), path
            assert page.inner_text("header").split()[:2] == ["FedForget", "coordinator"], path
            if theme == "light" and language == "en":
                until_checked(page, path)
                name = path.strip("/").replace("/", "-") or "overview"
                draw(page, pictures / f"coordinator-{name}.png")
            page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
            wrong[f"{path} {language}"] = findings(page)
            assert seen.messages == [], path

    assert {path: some for path, some in wrong.items() if some} == {}


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 640])
def test_every_page_of_the_coordinator_fits_a_narrow_or_zoomed_screen_and_is_accessible_there(
    served: Served, browser: Browser, width: int
) -> None:
    seen = watched(browser.new_context(viewport={"width": width, "height": 400}))
    page = seen.page
    served.sign_in(page)
    wrong: dict[str, object] = {}
    for language in LANGUAGES:
        speak(page, served.address, language)
        for path in PAGES:
            page.goto(served.address + path)
            wrong[f"{path} {language}"] = too_wide(page)
            if language == "en":
                wrong[f"{path} by axe"] = findings_narrow(page)
                wrong[f"{path} unfolded"] = too_wide(page)
    assert {path: some for path, some in wrong.items() if some} == {}
    assert seen.messages == []
