"""The console in a real browser: nothing breaks its policy, axe finds nothing, every page fits a narrow screen.

The process is the one that `up` runs, on loopback, without TLS and with a policy that Chromium enforces.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import pytest
from console_attacks import EVIL
from console_browser import (
    CHROMIUM,
    Served,
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
from npm_provider import CLIENT, SECRET, has_npm, npm_provider
from playwright.sync_api import Browser, Page, Response
from typer.testing import CliRunner

from client.cli import app
from client.revocations.opening import open_ledger
from client.revocations.revocation import Request, Source
from client.settings import SiteFolder
from common.files import write_private
from common.platform.console.settings import LANGUAGES

from .conftest import account

PAGES: tuple[str, ...] = ("/", "/register", "/queue?state=all", "/approvals", "/doubtful", "/opt-outs")
PAGES += ("/find", "/data", "/code")
PAGES += ("/health", "/log", "/people", "/settings", "/account", "/cases/{receipt}")
_COUNT_STEPS = """
const step = () => sessionStorage.setItem('steps', Number(sessionStorage.getItem('steps')) + 1);
addEventListener('click', step, true);
addEventListener('change', step, true);
"""
NASTY = '<img src=x onerror="window.ran=1"><script>window.ran=1</script>{{7*7}}'

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed: apt-get install chromium")


def registered(page: Page, served: Served, patient: str = "MRN-1001") -> str:
    """Register a revocation by the keyboard and return its receipt."""
    page.goto(f"{served.address}/register")
    page.fill("#patients", patient)
    page.get_by_role("button", name="See what it will mean").press("Enter")
    page.get_by_role("button", name="Confirm: stop use and record").press("Enter")
    page.wait_for_url("**/cases/*")
    return page.url.rpartition("/")[2]


def test_a_letter_becomes_a_receipt_with_comments_that_stay_texts(served: Served, browser: Browser) -> None:
    seen = watched(browser.new_context(viewport={"width": 1280, "height": 800}))
    page = seen.page
    served.sign_in(page)
    receipt = registered(page, served)
    page.fill("#comment", NASTY)
    page.get_by_role("button", name="Add").click()
    assert NASTY in page.inner_text("main")
    assert page.evaluate("window.ran") is None
    page.goto(f"{served.address}/queue?text={NASTY}&state={NASTY}")
    assert page.evaluate("window.ran") is None
    page.goto(f"{served.address}/")
    assert receipt in page.inner_text("main")
    # Recorded elsewhere: the open page follows by its event stream.
    arguments = ["revocations", "hold", receipt, "--reason", "checked by hand", "--steward", "kim"]
    assert CliRunner().invoke(app, [*arguments, "--dir", str(served.root)]).exit_code == 0
    page.locator("tbody .badge", has_text="On hold").wait_for(timeout=20_000)
    assert seen.messages == []
    assert seen.hosts == {served.address.partition("//")[2]}


@pytest.mark.slow
def test_what_comes_from_outside_runs_on_no_page_and_nobody_frames_one(
    served: Served, browser: Browser, tmp_path: Path
) -> None:
    folder = SiteFolder(served.root)
    # As a message of a hospital's system, a command, a setting and a colleague's name bring it.
    with open_ledger(folder) as ledger:
        received = Request(
            Source("fhir", EVIL), "r-fhir", ledger.clock(), legal_basis=EVIL, steward=EVIL, identity=EVIL, hold=EVIL
        )
        ledger.record(received, ["MRN-1002"])
    account(folder, EVIL[:60], ["auditor"])
    settings = ["settings", "set", "letter.sender", EVIL, "letter.contact", EVIL, "--dir", str(served.root)]
    assert CliRunner().invoke(app, settings).exit_code == 0

    seen = watched(browser.new_context())
    page = seen.page
    page.on("dialog", lambda dialog: seen.messages.append(dialog.message))
    served.sign_in(page)
    scan = tmp_path / "<img src=x onerror=alert(1)>.pdf"
    scan.write_bytes(b"%PDF-1.7 a made-up letter")
    page.goto(f"{served.address}/register")
    page.fill("#patients", f"MRN-01003\n{EVIL}\nMRN-1004")
    page.fill("#legal_basis", EVIL)
    page.set_input_files("#form", scan)
    page.get_by_role("button", name="See what it will mean").click()
    assert page.evaluate("window.ran") is None
    receipt = registered(page, served)
    page.fill("#comment", EVIL)
    page.get_by_role("button", name="Add").click()
    shown = set()
    for path in (*PAGES, "/cases/r-fhir", f"/queue?kind={EVIL}&source={EVIL}&sort={EVIL}"):
        for query in ("", f"{'&' if '?' in path else '?'}text={EVIL}&page={EVIL}"):
            page.goto(served.address + path.replace("{receipt}", receipt) + query)
            page.wait_for_load_state("load")
            assert page.evaluate("window.ran") is None, path
            shown |= {path} if EVIL[:40] in page.inner_text("main") else set()

    assert {"/cases/{receipt}", "/cases/r-fhir", "/people", "/settings"} <= shown
    assert seen.messages == []
    assert not is_framed(browser, served.address)


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_accessible_in_both_themes_and_keeps_its_policy(
    served: Served, browser: Browser, theme: str
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=theme)  # type: ignore[arg-type]
    seen = watched(context)
    page = seen.page
    wrong = {}
    for path in ("/sign-in", "/sign-in/setup"):
        page.goto(f"{served.address}{path}")
        wrong[path] = findings(page)
    served.sign_in(page)
    receipt = registered(page, served)

    # Colours are the same in every language.
    for language in LANGUAGES if theme == "light" else ("en",):
        speak(page, served.address, language)
        page.goto(f"{served.address}/register")
        page.fill("#patients", "MRN-01002\nunknown-7")
        page.locator("main form button").click()
        wrong[f"meaning {language}"] = findings(page)
        for path in PAGES:
            page.goto(served.address + path.replace("{receipt}", receipt))
            page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
            wrong[f"{path} {language}"] = findings(page)
            assert seen.messages == [], path

    assert {path: some for path, some in wrong.items() if some} == {}


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 640])
def test_every_page_fits_a_narrow_or_zoomed_screen_and_is_accessible_there(
    served: Served, browser: Browser, width: int
) -> None:
    seen = watched(browser.new_context(viewport={"width": width, "height": 400}))
    page = seen.page
    served.sign_in(page)
    receipt = registered(page, served)
    wrong: dict[str, object] = {}
    for language in LANGUAGES:
        speak(page, served.address, language)
        for path in PAGES:
            page.goto(served.address + path.replace("{receipt}", receipt))
            wrong[f"{path} {language}"] = too_wide(page)
            if language == "en":
                wrong[f"{path} by axe"] = findings_narrow(page)
                wrong[f"{path} unfolded"] = too_wide(page)
    assert {path: some for path, some in wrong.items() if some} == {}
    assert seen.messages == []


@pytest.mark.slow
def test_a_killed_console_loses_nothing_and_everybody_signs_in_again(served: Served, browser: Browser) -> None:
    page = browser.new_context().new_page()
    served.sign_in(page)
    receipt = registered(page, served)
    served.process.send_signal(signal.SIGKILL)
    served.process.wait()
    served.process = start("client.console", served.root, int(served.address.rpartition(":")[2]))
    page.goto(f"{served.address}/cases/{receipt}")
    assert "/sign-in?next=" in page.url
    served.sign_in(page)
    page.goto(f"{served.address}/cases/{receipt}")
    assert "Waits for approval" in page.inner_text("main")


def _keep_where_it_leads(into: list[str], response: Response) -> None:
    into.append(response.headers.get("location", ""))


@pytest.mark.slow
def test_a_console_killed_while_it_registers_keeps_what_it_answered_and_stops_use_with_every_row(
    served: Served, browser: Browser
) -> None:
    folder = SiteFolder(served.root)
    port = int(served.address.rpartition(":")[2])
    recorded = acknowledged = 0
    # From before the request arrives until after its answer.
    for number, delay in enumerate((0.0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 1.0)):
        patient = f"MRN-100{number}"
        page = browser.new_context().new_page()
        served.sign_in(page)
        page.goto(f"{served.address}/register")
        page.fill("#patients", patient)
        page.get_by_role("button", name="See what it will mean").click()
        answered: list[str] = []
        page.on("response", partial(_keep_where_it_leads, answered))
        page.evaluate("setTimeout(() => document.querySelector('form[action=\"/register/confirm\"]').submit())")
        page.wait_for_timeout(delay * 1000)
        served.process.send_signal(signal.SIGKILL)
        served.process.wait()
        page.context.close()

        with open_ledger(folder) as ledger:
            rows = ledger.of_patient(patient)
            assert ledger.is_stopped(patient) == bool(rows), delay
            receipts = [where.rpartition("/")[2] for where in answered if where.startswith("/cases/")]
            assert receipts in ([], [row.receipt for row in rows]), delay
            acknowledged += len(receipts)
            recorded += len(rows)
        served.process = start("client.console", served.root, port)

    assert 1 <= acknowledged <= recorded <= 8
    page = browser.new_context().new_page()
    served.sign_in(page)
    page.goto(f"{served.address}/queue")
    assert page.locator("tbody tr").count() == recorded


def test_the_process_cannot_read_a_signing_key(folder: SiteFolder) -> None:
    code = """
import sys, json
from pathlib import Path
from client.console.keys import keys_of
from client.settings import SiteFolder
from common.platform.console.hidden import hide
folder = SiteFolder(Path(sys.argv[1]))
how = hide(keys_of(folder))
found = {}
for path in (folder.signing_key, folder.tls_key, folder.passphrase, folder.node_key):
    try:
        found[path.name] = len(path.read_bytes())
    except OSError:
        found[path.name] = 0
import subprocess
shell = subprocess.run(["cat", str(folder.signing_key)], capture_output=True).stdout
import client.console.service
print(json.dumps({"how": how, "read": found, "by_child": len(shell), "pseudonyms": folder.settings_file.exists()}))
"""
    assert folder.signing_key.stat().st_size > 0
    done = subprocess.run([sys.executable, "-c", code, str(folder.root)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert set(found["read"].values()) == {0}
    assert found["pseudonyms"]
    if found["how"] == "kernel":
        assert found["by_child"] == 0


@pytest.mark.slow
@pytest.mark.skipif(not has_npm(), reason="npm is not installed")
def test_people_sign_in_by_a_real_openid_provider_and_their_groups_give_roles(
    served: Served, browser: Browser, tmp_path: Path
) -> None:
    groups = {"ada": ["consent-office"], "ben": ["data-protection"], "eve": ["kitchen"]}
    answer = f"{served.address}/sign-in/provider/answer"
    with npm_provider(tmp_path / "provider", {CLIENT: answer}, groups) as provider:
        write_private(served.root / "console" / "client-secret", SECRET.encode())
        pairs = {"issuer": provider.issuer, "client_id": CLIENT, "client_secret_file": "console/client-secret"}
        pairs["groups"] = '{ consent-office = "steward", data-protection = "approver" }'
        words = [word for name, value in pairs.items() for word in (f"console.openid.{name}", value)]
        arguments = ["settings", "set", *words, "--dir", str(served.root)]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        served.process.terminate()
        served.process.wait(60)
        served.process = start("client.console", served.root, int(served.address.rpartition(":")[2]))

        steward = by_provider(browser, served.address, "ada")
        receipt = registered(steward, served)
        approver = by_provider(browser, served.address, "ben")
        approver.goto(f"{served.address}/cases/{receipt}")
        approver.get_by_role("button", name="Approve").click()
        assert "Waits for a campaign" in approver.inner_text("main")
        stranger = by_provider(browser, served.address, "eve")
        assert "none of your groups has a role here" in stranger.inner_text("main")


def by_provider(browser: Browser, address: str, name: str) -> Page:
    """Sign in at the provider, in a browser of one's own."""
    page = browser.new_context().new_page()
    page.goto(f"{address}/")
    page.get_by_role("link", name="Sign in with your organisation's account").click()
    page.fill("[name=login]", name)
    page.fill("[name=password]", "anything")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url(f"{address}/**")
    page.wait_for_load_state("networkidle")

    return page


@pytest.mark.slow
def test_every_page_is_drawn_for_the_documentation(served: Served, browser: Browser, tmp_path: Path) -> None:
    """With FEDFORGET_SCREENSHOTS=docs/images/consoles the pictures of the documentation are written again."""
    folder = Path(os.environ.get("FEDFORGET_SCREENSHOTS", tmp_path))
    page = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light").new_page()
    served.sign_in(page)
    registered(page, served, "MRN-1003")
    assert CliRunner().invoke(app, ["revoke", "--dir", str(served.root)], input="MRN-1004\n").exit_code == 0
    page.goto(f"{served.address}/register")
    page.fill("#patients", "MRN-01002")
    page.get_by_role("button", name="See what it will mean").click()
    draw(page, folder / "site-meaning.png")
    page.get_by_role("button", name="Confirm: stop use and record").click()
    receipt = registered(page, served, "MRN-1005")
    names = {"/": "today", "/cases/{receipt}": "case", "/queue?state=all": "queue"}
    for path in PAGES:
        page.goto(served.address + path.replace("{receipt}", receipt))
        page.wait_for_load_state("networkidle")
        until_checked(page, path)
        assert "<code>" not in page.inner_text("body"), path
        assert page.inner_text("header").split()[:2] == ["FedForget", "north"], path
        name = names.get(path, path.partition("?")[0].strip("/").replace("/", "-"))
        draw(page, folder / f"site-{name}.png")

    assert (folder / "site-today.png").stat().st_size > 5_000


@pytest.mark.parametrize("is_all", [False, True], ids=["the usual letter", "every field"])
def test_a_letter_is_a_receipt_in_few_steps_and_today_needs_no_scrolling(
    served: Served, browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_all: bool
) -> None:
    """The steps of a person are counted by what the browser reports: clicks, and fields that change.

    How long a person takes follows from steps and keys, by the keystroke-level model (Card, Moran and Newell, 1980).
    """
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.add_init_script(_COUNT_STEPS)
    page = context.new_page()
    served.sign_in(page)
    page.evaluate("sessionStorage.setItem('steps', '0')")
    began = time.monotonic()
    page.get_by_role("link", name="Register").first.click()
    scan = tmp_path / "scan.pdf"
    scan.write_bytes(b"%PDF-1.7 a made-up letter")
    page.fill("#patients", "MRN-1003")
    page.press("#patients", "Tab")
    if is_all:
        page.fill("#received", f"{date.today() - timedelta(days=1)}")
        page.press("#received", "Tab")
        for name, choice in (("kind", 1), ("scope", 1), ("requester", 1), ("identity_check", 1)):
            page.select_option(f"#{name}", index=choice)
        page.set_input_files("#form", scan)
        page.fill("#legal_basis", "GDPR 17(1)(b)")
        page.press("#legal_basis", "Tab")
    page.get_by_role("button", name="See what it will mean").click()
    page.get_by_role("button", name="Confirm: stop use and record").click()
    page.wait_for_url("**/cases/*")
    seconds = time.monotonic() - began
    steps = int(page.evaluate("sessionStorage.getItem('steps')"))
    assert (11 if is_all else 4) <= steps < 15
    keys = len("MRN-1003") + (len("01012026GDPR 17(1)(b)scan.pdf") if is_all else 0)
    # Each step is thought of, pointed at and clicked.
    person = seconds + steps * (1.35 + 1.10 + 0.20) + keys * 0.28
    with capsys.disabled():
        print(f"\nletter to receipt: {steps} steps, {seconds:.1f} s of the machine, {person:.0f} s of a person")
    assert person < 90

    more = "".join(f"MRN-100{n}\n" for n in (0, 1, 2, 4, 5, 6, 7, 8, 9))
    for patient in more.split():
        assert CliRunner().invoke(app, ["revoke", "--dir", str(served.root)], input=patient).exit_code == 0
    page.goto(f"{served.address}/")
    bottoms = page.locator("main .card, main tbody tr").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().bottom)"
    )
    assert bottoms
    assert max(bottoms) <= 800


@pytest.mark.slow
def test_a_passkey_is_added_and_signs_in_without_a_password(served: Served, browser: Browser) -> None:
    port = served.address.rpartition(":")[2]
    served.address = f"http://localhost:{port}"
    arguments = ["settings", "set", "console.public_url", served.address, "--dir", str(served.root)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    served.process.terminate()
    served.process.wait(60)
    served.process = start("client.console", served.root, int(port))
    context = browser.new_context()
    page = context.new_page()
    devices = context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    options |= {"isUserVerified": True, "automaticPresenceSimulation": True}
    added = devices.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    served.sign_in(page)
    page.goto(f"{served.address}/account")
    page.get_by_role("button", name="Add a passkey on this device").click()
    page.get_by_text("You have 1 passkey.").wait_for(timeout=20_000)
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.wait_for_url(f"{served.address}/", timeout=20_000)
    assert "Ada Lee" in page.inner_text("header")

    # Somebody who only holds the device is not let in.
    page.get_by_role("button", name="Sign out").click()
    devices.send("WebAuthn.setUserVerified", {**added, "isUserVerified": False})
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.locator(".passkey-problem:not(:empty)").wait_for(timeout=90_000)
    page.goto(f"{served.address}/")
    assert "/sign-in" in page.url
