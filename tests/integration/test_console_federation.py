"""A withdrawal from a letter to its evidence, as people do it: in browsers, at a real federation, by a real provider.

A steward signs in by OpenID Connect and registers the letters, a second person approves, and the campaign runs while
the case follows it. An operator of the coordinator follows the same campaign and never meets an identifier. At the end
the letter is read, and the stand-alone verifier checks the evidence.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from console_browser import CHROMIUM, chromium
from console_traffic import Traffic, recorded
from npm_provider import SECRET, has_npm, npm_provider
from playwright.sync_api import Browser, Page
from playwright.sync_api import Error as PlaywrightError

from client.settings import SiteFolder
from common.files import write_private
from server.settings import ServerFolder

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv" / "bin"
NAMES = ("north", "south", "west")
CAMPAIGN_SECONDS = 420.0

# The smallest federation whose hospitals still have enough patients for a decision, and short waits between calls.
SMALL = (
    *("--patients", "60", "--rounds", "2", "--site-set", "heartbeat_seconds=5"),
    *("--set", "policy.single_writer_rounds=1", "--set", "experiment.folds.targets=0"),
    *("--set", "experiment.folds.audit=0"),
)
FOLLOWED = """
() => {
  window.seen = [];
  const look = () => {
    const text = document.querySelector('main p')?.innerText;
    if (text && window.seen.at(-1) !== text) window.seen.push(text);
  };
  look();
  new MutationObserver(look).observe(document.querySelector('main'), { childList: true, subtree: true });
}
"""
"""Notes each state that a page shows. A page that is loaded again forgets them: they show that it followed."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.skipif(not CHROMIUM.exists() or not has_npm(), reason="needs Chromium and npm"),
]


@dataclass(slots=True)
class Watch:
    """Seconds of each part of the walk."""

    began: float = field(default_factory=time.monotonic)
    marks: list[str] = field(default_factory=list)

    def mark(self, what: str) -> None:
        """A part has ended."""
        now = time.monotonic()
        self.marks.append(f"{what} {now - self.began:.0f} s")
        self.began = now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def federation(tmp_path: Path, watch: Watch) -> Iterator[Path]:
    """The three hospitals of the README with consoles, after their first training."""
    root = tmp_path / "federation"
    try:
        run(ROOT / "deploy" / "local-federation", "start", root, "--console", *SMALL)
        watch.mark("start of the federation")
        run(BIN / "fedforget-server", "train", "--dir", root / "server", "--wait")
        watch.mark("first training")
        yield root
    finally:
        run(ROOT / "deploy" / "local-federation", "stop", root)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def run(*argv: object) -> str:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, timeout=420)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sign_in_by(issuer: str, client: str, groups: dict[str, str], program: str, folder: Path) -> None:
    """Let the people of a provider into a console, and end its process: the supervisor starts it with the settings."""
    write_private(folder / "console" / "client-secret", SECRET.encode())
    pairs = {"issuer": issuer, "client_id": client, "client_secret_file": "console/client-secret"}
    pairs["groups"] = "{ " + ", ".join(f'{group} = "{role}"' for group, role in groups.items()) + " }"
    words = [word for name, value in pairs.items() for word in (f"console.openid.{name}", value)]
    run(BIN / program, "settings", "set", *words, "--dir", folder)

    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            argv = entry.read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if {"client.console", "server.console"} & {*argv} and str(folder) in argv:
            os.kill(int(entry.parent.name), signal.SIGTERM)


def signed_in(page: Page, address: str, name: str) -> Page:
    """Sign in at the provider; the console may just be starting."""
    end = time.monotonic() + 120
    while True:
        try:
            page.goto(f"{address}/")
            page.get_by_role("link", name="Sign in with your organisation's account").click(timeout=3000)
            break
        except PlaywrightError:
            assert time.monotonic() < end
            page.wait_for_timeout(500)
    page.fill("[name=login]", name)
    page.fill("[name=password]", "anything")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url(f"{address}/**")

    return page


def test_letters_are_registered_approved_forgotten_answered_and_proven(
    federation: Path, browser: Browser, watch: Watch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    north = SiteFolder(federation / "north")
    server = ServerFolder(federation / "server")
    desk = f"http://127.0.0.1:{north.settings().console.port}"
    board = f"http://127.0.0.1:{server.settings().console.port}"
    redirects = {"north": f"{desk}/sign-in/provider/answer", "coordinator": f"{board}/sign-in/provider/answer"}
    people = {"ada": ["office"], "ben": ["protection"], "eva": ["federation"]}

    with npm_provider(tmp_path / "provider", redirects, people) as provider:
        roles = {"office": "steward", "protection": "approver"}
        sign_in_by(provider.issuer, "north", roles, "fedforget-site", north.root)
        sign_in_by(provider.issuer, "coordinator", {"federation": "operator"}, "fedforget-server", server.root)
        operator = browser.new_context().new_page()
        traffic = recorded(operator)
        signed_in(operator, board, "eva")
        steward = signed_in(browser.new_context(accept_downloads=True).new_page(), desk, "ada")
        approver = signed_in(browser.new_context().new_page(), desk, "ben")
        watch.mark("three people sign in")

        patients = (federation / "letters.txt").read_text(encoding="utf-8").split()
        receipt = register(steward, desk, patients, tmp_path)
        approver.goto(f"{desk}/approvals")
        approver.get_by_role("checkbox", name=f"Choose {receipt}").check()
        approver.get_by_role("button", name="Approve the selected receipts").click()
        assert "1 receipt approved" in approver.inner_text("main")
        watch.mark("letter, meaning, receipt, approval")

        # From here nobody loads a page again: the pages follow.
        steward.evaluate(FOLLOWED)
        operator.get_by_role("link", name="Campaign 2").click(timeout=CAMPAIGN_SECONDS * 1000)
        operator.evaluate(FOLLOWED)
        watch.mark("until the coordinator has planned")
        operator.locator("main p", has_text="Published").wait_for(timeout=CAMPAIGN_SECONDS * 1000)
        watch.mark("campaign")
        steward.locator("main", has_text="Forgotten by").wait_for(timeout=CAMPAIGN_SECONDS * 1000)
        assert "Forgot them" in steward.inner_text("main")
        assert [text for text in steward.evaluate("window.seen") if "campaign" in text], steward.evaluate("window.seen")
        assert len(operator.evaluate("window.seen")) >= 4
        watch.mark("until the case shows it")

        letter = downloaded(steward, "Letter as PDF, in English", tmp_path / "letter.pdf")
        check_letter(letter, receipt)
        check_evidence(steward, tmp_path)
        watch.mark("letter and signed evidence")
        look_around(operator, board, traffic)
        watch.mark("every page of the coordinator")

    check_traffic(traffic, federation, server)
    with capsys.disabled():
        print("\n" + ", ".join(watch.marks))


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


def check_letter(letter: Path, receipt: str) -> None:
    """The letter, as its reader sees it: by which of the two ways the model has forgotten, and how to check it."""
    done = subprocess.run(["pdftotext", letter, "-"], capture_output=True, text=True, check=True)
    words = " ".join(done.stdout.split())
    assert receipt in words
    ways = ("the model was trained again from the beginning", "the model was changed to forget")
    assert any(way in words for way in ways), words
    assert "how the model was made to forget has the number 2" in words


def check_evidence(page: Page, folder: Path) -> None:
    """The archive holds once the attestation is signed, a heartbeat or two after the end of the campaign."""
    end = time.monotonic() + 180
    while True:
        archive = downloaded(page, "Evidence as ZIP, with the verifier", folder / "evidence.zip")
        with zipfile.ZipFile(archive) as file:
            names = file.namelist()
            if "attestation.json" in names and any(name.startswith("leaf-ended") for name in names):
                file.extractall(folder / "evidence")
                break
        assert time.monotonic() < end, names
        page.wait_for_timeout(2000)

    place = folder / "evidence"
    leaves = [word for path in sorted(place.glob("leaf-*.json")) for word in ("--leaf", path.name)]
    command = [sys.executable, "verify.pyz", "attestation.json", "--key", "site=site.pub", "--key", "server=server.pub"]
    done = subprocess.run([*command, *leaves], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(leaves) >= 6


def look_around(page: Page, address: str, traffic: Traffic) -> None:
    """Load every page that the coordinator's menu leads to, and those of the campaign, its version and a hospital."""
    traffic.keep(page.url, page.content())
    links = page.locator("nav a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    for path in [*links, "/campaigns/1", "/sites/north", "/models/v0002"]:
        page.goto(f"{address}{path}")
        page.wait_for_load_state("load")
        traffic.keep(path, page.content())
    traffic.read_assets(page)


def check_traffic(traffic: Traffic, federation: Path, server: ServerFolder) -> None:
    """No identifier of any hospital's patients went to the operator's browser, or lies in the coordinator's files."""
    patients: set[str] = set()
    for name in NAMES:
        patients |= {*json.loads((federation / name / "site.json").read_text(encoding="utf-8"))["subsets"]}
    assert len(patients) > 100
    assert traffic.size > 100_000
    assert traffic.events > 3
    assert traffic.unread == []
    assert traffic.naming(patients) == []

    wanted = [patient.encode() for patient in patients]
    for path in server.root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(patient in content for patient in wanted), path.name
