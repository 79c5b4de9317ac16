"""A withdrawal from a letter to its evidence, as people do it: in a browser, at a real federation, by a real provider.

A steward signs in by OpenID Connect and registers the letters, a second person approves, the campaign runs while the
page follows it, the letter is opened, and the stand-alone verifier checks the evidence.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from npm_provider import CLIENT, SECRET, has_npm, npm_provider
from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from client.settings import SiteFolder
from common.files import write_private

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv" / "bin"
CHROMIUM = Path("/usr/bin/chromium")
CAMPAIGN_SECONDS = 1500.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.skipif(not CHROMIUM.exists() or not has_npm(), reason="needs Chromium and npm"),
]


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Path]:
    """The three hospitals of the README with consoles, after their first training."""
    root = tmp_path / "federation"
    run(ROOT / "deploy" / "local-federation", "start", root, "--console")
    try:
        run(BIN / "fedforget-server", "train", "--dir", root / "server", "--wait")
        yield root
    finally:
        run(ROOT / "deploy" / "local-federation", "stop", root)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


def run(*argv: object) -> str:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def restart_console(folder: Path) -> None:
    """End the console's process; its supervisor starts it again, with the present settings."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if "client.console" in words and str(folder) in words and words[0] == sys.executable and "-P" in words:
            os.kill(int(entry.parent.name), signal.SIGTERM)


def signed_in(browser: Browser, address: str, name: str) -> Page:
    """Sign in at the provider, in a browser of one's own; the console may just be starting."""
    page = browser.new_context(accept_downloads=True).new_page()
    end = time.monotonic() + 120
    while True:
        try:
            page.goto(f"{address}/")
            page.get_by_role("link", name="Sign in with your hospital account").click(timeout=3000)
            break
        except PlaywrightError:
            assert time.monotonic() < end
            time.sleep(0.5)
    page.fill("[name=login]", name)
    page.fill("[name=password]", "anything")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url(f"{address}/**")
    page.wait_for_load_state("networkidle")

    return page


def test_letters_are_registered_approved_forgotten_answered_and_proven(
    federation: Path, browser: Browser, tmp_path: Path
) -> None:
    north = federation / "north"
    console = SiteFolder(north).settings().console
    address = f"http://127.0.0.1:{console.port}"
    groups = {"ada": ["office"], "ben": ["protection"]}

    with npm_provider(tmp_path / "provider", f"{address}/sign-in/provider/answer", groups) as provider:
        write_private(north / "console" / "client-secret", SECRET.encode())
        pairs = {"issuer": provider.issuer, "client_id": CLIENT, "client_secret_file": "console/client-secret"}
        pairs["groups"] = '{ office = "steward", protection = "approver" }'
        words = [word for name, value in pairs.items() for word in (f"console.openid.{name}", value)]
        run(BIN / "fedforget-site", "settings", "set", *words, "--dir", north)
        restart_console(north)

        steward = signed_in(browser, address, "ada")
        patients = (federation / "letters.txt").read_text(encoding="utf-8").split()
        receipt = register(steward, address, patients, tmp_path)
        approver = signed_in(browser, address, "ben")
        approver.goto(f"{address}/approvals")
        approver.get_by_role("checkbox", name=f"Choose {receipt}").check()
        approver.get_by_role("button", name="Approve those that are chosen").click()
        assert "1 receipt approved" in approver.inner_text("main")

        # Nobody loads the page again: it follows.
        forgotten = steward.locator("main", has_text="Forgotten by")
        forgotten.wait_for(timeout=CAMPAIGN_SECONDS * 1000)
        assert "Forgot them" in steward.inner_text("main") or "training anew" in steward.inner_text("main")
        letter = downloaded(steward, "Letter as PDF, in English", tmp_path / "letter.pdf")
        assert letter.read_bytes().startswith(b"%PDF-")
        check_evidence(steward, federation, tmp_path)

    everything = b"".join(path.read_bytes() for path in (federation / "server").rglob("*") if path.is_file())
    assert not any(patient.encode() in everything for patient in patients)


def register(page: Page, address: str, patients: list[str], folder: Path) -> str:
    """Register a list with a scanned letter; the page says first what it will mean."""
    scan = folder / "scan.pdf"
    scan.write_bytes(b"%PDF-1.7 a made-up letter")
    page.goto(f"{address}/register")
    page.fill("#patients", "\n".join(patients))
    page.set_input_files("#form", scan)
    page.get_by_role("button", name="See what it will mean").click()
    meaning = page.inner_text("main")
    assert f"All use of {len(patients)} patients stops at once" in meaning
    assert "rounds and" in meaning
    page.get_by_role("button", name="Confirm: stop use and record").click()
    page.wait_for_url("**/cases/*")
    assert "Use has stopped" in page.inner_text("main")

    return page.url.rpartition("/")[2]


def downloaded(page: Page, link: str, to: Path) -> Path:
    with page.expect_download(timeout=120_000) as waiting:
        page.get_by_role("link", name=link).click()
    waiting.value.save_as(to)
    return to


def check_evidence(page: Page, federation: Path, folder: Path) -> None:
    """The archive holds once the attestation is signed, a heartbeat or two after the end of the campaign."""
    end = time.monotonic() + 300
    while True:
        archive = downloaded(page, "Evidence as ZIP, with the verifier", folder / "evidence.zip")
        with zipfile.ZipFile(archive) as file:
            names = file.namelist()
            if "attestation.json" in names and any(name.startswith("leaf-ended") for name in names):
                file.extractall(folder / "evidence")
                break
        assert time.monotonic() < end, names
        time.sleep(5)

    place = folder / "evidence"
    leaves = [word for path in sorted(place.glob("leaf-*.json")) for word in ("--leaf", path.name)]
    command = [sys.executable, "verify.pyz", "attestation.json", "--key", "site=site.pub", "--key", "server=server.pub"]
    done = subprocess.run([*command, *leaves], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(leaves) >= 6
