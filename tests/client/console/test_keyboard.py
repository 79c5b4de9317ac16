"""From the sign-in to the letter and the evidence by keyboard alone: Tab, Enter, Space and arrows."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from console_browser import CHROMIUM, PASSWORD, Served
from keyboard import Keyboard
from playwright.sync_api import Browser, Page
from typer.testing import CliRunner

from client.cli import app
from client.evidence.event_log import SiteLog
from client.revocations.opening import open_ledger
from client.settings import SiteFolder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed: apt-get install chromium"),
]


def test_a_letter_is_registered_approved_answered_and_proven_without_a_mouse(
    served: Served, approver: Served, browser: Browser, tmp_path: Path
) -> None:
    # Without animation a page has scrolled to the focus by the time that it is looked at.
    window = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"}
    page = browser.new_context(**window, accept_downloads=True).new_page()  # type: ignore[arg-type]
    keys = Keyboard(page)
    sign_in(keys, served)
    keys.follow("Register", "a")
    keys.fill("Patient identifier", "MRN-1003")
    keys.to("What the patient asks for")
    keys.press("ArrowDown")
    keys.follow("See what it will mean")
    assert "Objection" in page.inner_text("main dl")
    keys.follow("Confirm: stop use and record")
    receipt = page.url.rpartition("/")[2]
    log_follows(served)

    keys.to("Put on hold", "summary")
    keys.press("Space")
    assert page.locator("#hold-reason").is_visible()
    keys.press("Enter")
    assert not page.locator("#hold-reason").is_visible()
    keys.fill("New comment", "The letter is in room 3")
    keys.follow("Add")
    assert "The letter is in room 3" in page.inner_text("main")

    keys.follow("Sign out")
    sign_in(keys, approver)
    keys.follow("Approvals", "a")
    keys.to(f"Choose {receipt}")
    keys.press("Space")
    keys.follow("Approve the selected receipts")
    assert "1 receipt approved" in page.inner_text("main")
    keys.follow("Sign out")

    sign_in(keys, served)
    keys.to("Skip to the content")
    keys.press("Enter")
    keys.follow(receipt, "a")
    assert "Waits for a campaign" in page.inner_text("main")
    letter = keys.download("Letter as PDF, in English", tmp_path / "letter.pdf")
    assert letter.read_bytes().startswith(b"%PDF-")
    with zipfile.ZipFile(keys.download("Evidence as ZIP", tmp_path / "evidence.zip")) as archive:
        assert "verify.pyz" in archive.namelist()
    assert keys.stops < 400


def sign_in(keys: Keyboard, person: Served) -> None:
    """Sign in by the form; the address is typed."""
    keys.page.goto(f"{person.address}/sign-in")
    keys.fill("Name", person.name)
    keys.fill("Password", PASSWORD)
    keys.fill("Code", person.code())
    with keys.page.expect_navigation():
        keys.press("Enter")
    assert person.name in keys.page.inner_text("header")


def log_follows(served: Served) -> None:
    """What `up` does beside the console: the log takes the receipt up, and the coordinator's key is there."""
    folder = SiteFolder(served.root)
    with open_ledger(folder, checked=True) as ledger:
        log = SiteLog(folder, ledger.engine, ledger.clock)
        log.follow()
    folder.coordinator_key.parent.mkdir(exist_ok=True)
    folder.coordinator_key.write_bytes(log.key().public.pem)


def test_a_part_that_is_loaded_anew_leaves_the_focus_where_it_was(served: Served, browser: Browser) -> None:
    page = browser.new_context(reduced_motion="reduce").new_page()
    keys = Keyboard(page)
    sign_in(keys, served)
    keys.to("On hold", "a")
    result = CliRunner().invoke(app, ["revoke", "--dir", str(served.root)], input="MRN-1004\n")
    assert result.exit_code == 0, result.output
    page.locator("[data-live] tbody .badge", has_text="Waits for approval").wait_for(timeout=20_000)
    assert page.locator(":focus-visible").inner_text() == "On hold"
    assert page.locator(":focus").get_attribute("href") == "/queue?state=on-hold"


def test_the_keyboard_of_these_tests_sees_a_focus_that_is_not_marked(browser: Browser) -> None:
    page: Page = browser.new_page()
    page.set_content("<style>a { outline: none }</style><a href='#x'>hidden</a><a href='#y'>goal</a>")
    with pytest.raises(AssertionError, match="no visible focus"):
        Keyboard(page).to("goal")
