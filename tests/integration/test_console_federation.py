"""A withdrawal from a letter to its evidence, as people do it: in browsers, at a real federation, by a real provider.

Everybody works by keyboard alone: they type an address to begin, and from there press Tab, Enter, Space and arrows.

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
from shutil import which

import pytest
from console_browser import CHROMIUM, chromium
from console_traffic import Traffic, recorded
from keyboard import Keyboard
from npm_provider import SECRET, has_npm, npm_provider
from playwright.sync_api import Browser
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
    pytest.mark.skipif(
        not CHROMIUM.exists() or not has_npm() or which("pdftotext") is None,
        reason="needs Chromium, npm and pdftotext: apt-get install chromium npm poppler-utils",
    ),
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


def person(browser: Browser, provider: str) -> Keyboard:
    """Somebody with a browser of their own, and no mouse."""
    # Without animation a page has scrolled to the focus by the time that it is looked at.
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    return Keyboard(context.new_page(), foreign=provider)


def sign_in(keys: Keyboard, address: str, name: str) -> None:
    """Sign in at the provider; the console may just be starting."""
    end = time.monotonic() + 120
    while True:
        try:
            keys.page.goto(f"{address}/")
            keys.page.get_by_role("link", name="Sign in with your organisation's account").wait_for(timeout=3000)
            break
        except PlaywrightError:
            assert time.monotonic() < end
            keys.page.wait_for_timeout(500)

    keys.follow("Sign in with your organisation's account", "a")
    keys.fill("Enter any login", name)
    keys.fill("and password", "anything")
    keys.follow("Sign-in", "button")
    keys.follow("Continue", "button")
    keys.page.locator("header", has_text=name).wait_for()


def test_letters_are_registered_approved_forgotten_answered_and_proven_without_a_mouse(
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
        operator, steward, approver = (person(browser, provider.issuer) for _ in people)
        traffic = recorded(operator.page)
        sign_in(operator, board, "eva")
        sign_in(steward, desk, "ada")
        sign_in(approver, desk, "ben")
        watch.mark("three people sign in")

        patients = (federation / "letters.txt").read_text(encoding="utf-8").split()
        receipt = register(steward, patients, tmp_path)
        approver.follow(href="/approvals")
        approver.to(f"Choose {receipt}")
        approver.press("Space")
        approver.follow("Approve the selected receipts", "button")
        assert "1 receipt approved" in approver.page.inner_text("main")
        watch.mark("letter, meaning, receipt, approval")

        # From here nobody loads a page again: the pages follow.
        steward.page.evaluate(FOLLOWED)
        operator.page.get_by_role("link", name="Campaign 2").wait_for(timeout=CAMPAIGN_SECONDS * 1000)
        operator.follow("Campaign 2", "a")
        operator.page.evaluate(FOLLOWED)
        watch.mark("until the coordinator has planned")
        operator.page.locator("main p", has_text="Published").wait_for(timeout=CAMPAIGN_SECONDS * 1000)
        watch.mark("campaign")
        steward.page.locator("main", has_text="Forgotten by").wait_for(timeout=CAMPAIGN_SECONDS * 1000)
        assert "Forgot them" in steward.page.inner_text("main")
        states = steward.page.evaluate("window.seen")
        assert [text for text in states if "campaign" in text], states
        assert len(operator.page.evaluate("window.seen")) >= 4
        watch.mark("until the case shows it")

        letter = steward.download("Letter as PDF, in English", tmp_path / "letter.pdf")
        check_letter(letter, receipt)
        check_evidence(steward, tmp_path)
        watch.mark("letter and signed evidence")
        look_around(operator, traffic)
        watch.mark("every page of the coordinator")

    check_traffic(traffic, federation, server)
    with capsys.disabled():
        print("\n" + ", ".join(watch.marks))
        print(", ".join(f"{keys.stops} stops" for keys in (steward, approver, operator)))


def register(keys: Keyboard, patients: list[str], folder: Path) -> str:
    """Register a list with a scanned letter; the page says first what it will mean."""
    scan = folder / "scan.pdf"
    scan.write_bytes(b"%PDF-1.7 a made-up letter")
    keys.follow(href="/register")
    keys.fill("Patient identifier", "\n".join(patients))
    keys.attach("Scanned letter", scan)
    keys.back_to("How the identity was checked")
    keys.press("ArrowDown")
    keys.follow("See what it will mean", "button")
    meaning = keys.page.inner_text("main")
    assert f"All use of {len(patients)} patients stops at once" in meaning
    assert "rounds and" in meaning
    keys.follow("Confirm: stop use and record", "button")
    keys.page.wait_for_url("**/cases/*")
    assert "Use has stopped" in keys.page.inner_text("main")

    return keys.page.url.rpartition("/")[2]


def check_letter(letter: Path, receipt: str) -> None:
    """The letter, as its reader sees it: by which of the two ways the model has forgotten, and how to check it."""
    done = subprocess.run(["pdftotext", letter, "-"], capture_output=True, text=True, check=True)
    words = " ".join(done.stdout.split())
    assert receipt in words
    ways = ("the model was trained again from the beginning", "the model was changed to forget")
    assert any(way in words for way in ways), words
    assert "how the model was made to forget has the number 2" in words


def check_evidence(keys: Keyboard, folder: Path) -> None:
    """The archive holds once the attestation is signed, a heartbeat or two after the end of the campaign."""
    end = time.monotonic() + 180
    while True:
        archive = keys.download("Evidence as ZIP, with the verifier", folder / "evidence.zip")
        with zipfile.ZipFile(archive) as file:
            names = file.namelist()
            if "attestation.json" in names and any(name.startswith("leaf-ended") for name in names):
                file.extractall(folder / "evidence")
                break
        assert time.monotonic() < end, names
        keys.page.wait_for_timeout(2000)

    place = folder / "evidence"
    leaves = [word for path in sorted(place.glob("leaf-*.json")) for word in ("--leaf", path.name)]
    command = [sys.executable, "verify.pyz", "attestation.json", "--key", "site=site.pub", "--key", "server=server.pub"]
    done = subprocess.run([*command, *leaves], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(leaves) >= 6


def look_around(keys: Keyboard, traffic: Traffic) -> None:
    """Go to every page that the coordinator's menu leads to, and to those of a campaign, a version and a hospital."""
    traffic.keep(keys.page.url, keys.page.content())
    menu = keys.page.locator("nav[aria-label=Pages] a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert len(menu) >= 8
    inner = {"/campaigns": "/campaigns/1", "/sites": "/sites/north", "/models": "/models/v0002"}
    for path in menu:
        for step in (path, inner.get(path)):
            if step is not None:
                keys.follow(href=step)
                traffic.keep(step, keys.page.content())
    traffic.read_assets(keys.page)


def check_traffic(traffic: Traffic, federation: Path, server: ServerFolder) -> None:
    """No identifier of any hospital's patients went to the operator's browser, or lies in the coordinator's files."""
    patients: set[str] = set()
    for name in NAMES:
        patients |= {*json.loads((federation / name / "site.json").read_text(encoding="utf-8"))["subsets"]}
    assert len(patients) > 100
    assert traffic.size > 100_000
    assert traffic.events > 3
    # The page after the sign-in leads on at once, and the browser may not keep it. No letter had come by then.
    assert [address for address in traffic.unread if "/sign-in/provider/answer?" not in address] == []
    assert traffic.naming(patients) == []

    wanted = [patient.encode() for patient in patients]
    for path in server.root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(patient in content for patient in wanted), path.name
