"""A console process in a real browser: started on loopback, signed in to, and looked at by axe."""

from __future__ import annotations

import io
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyotp
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Error, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
PASSWORD = "correct horse battery staple"
_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}


@dataclass(slots=True)
class Served:
    """A console process, its address, and a person with all roles."""

    root: Path
    address: str
    process: subprocess.Popen[bytes]
    secret: str
    name: str = "Ada Lee"
    used: int = 0

    def code(self) -> str:
        """A code that was not used before: steps around the present one are accepted, each once."""
        step = max(int(time.time()) // 30, self.used + 1)
        while step > int(time.time()) // 30 + 1:
            time.sleep(0.5)
        self.used = step
        return pyotp.TOTP(self.secret).at(step * 30)

    def sign_in(self, page: Page) -> None:
        """Sign in by the form."""
        page.goto(f"{self.address}/sign-in")
        page.fill("#name", self.name)
        page.fill("#password", PASSWORD)
        page.fill("#code", self.code())
        page.click("main button:not(.second)")
        page.wait_for_url(f"{self.address}/")


def start(module: str, root: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the process and wait until it serves."""
    command = [sys.executable, "-m", module, "--dir", str(root)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 150
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/alive", timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process

    raise RuntimeError(f"the console did not start: {process.poll()}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass(slots=True)
class Watched:
    """A page whose console is watched for violations and errors."""

    page: Page
    messages: list[str]
    hosts: set[str]


def watched(context: BrowserContext) -> Watched:
    page = context.new_page()
    messages: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda message: messages.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    return Watched(page, messages, hosts)


def is_framed(browser: Browser, address: str) -> bool:
    """Whether a page of another site gets a page of the console into a frame, under which it could hide a button."""
    page = browser.new_page()
    page.set_content(f'<iframe src="{address}/sign-in"></iframe>')
    frame = page.frames[1]
    page.wait_for_load_state("networkidle")
    is_shown = frame.locator("h1", has_text="Sign in").count() > 0
    assert is_shown or frame.url.startswith("chrome-error:"), frame.url
    page.close()

    return is_shown


def findings(page: Page) -> list[dict[str, Any]]:
    """What axe finds of WCAG 2.2 AA."""
    source = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    page.evaluate(source)  # by the debugger: the policy would not let a script element run
    result: dict[str, Any] = page.evaluate("rules => axe.run(document, rules)", _RULES)
    assert result["passes"]

    return [{"rule": one["id"], "nodes": [node["html"] for node in one["nodes"]]} for one in result["violations"]]


def findings_narrow(page: Page) -> dict[str, list[dict[str, Any]]]:
    """What axe finds with everything unfolded, by theme; the window stays as narrow as it is."""
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    found = {}
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        found[theme] = findings(page)

    return {theme: some for theme, some in found.items() if some}


def speak(page: Page, address: str, language: str) -> None:
    """Choose the language of the pages, in the form that each page has."""
    page.goto(f"{address}/account")
    page.select_option("#language", language)
    page.locator(".preferences button").click()
    page.locator(f"html[lang={language}]").wait_for()


def until_checked(page: Page, path: str) -> None:
    """Wait until *Health* shows its checks, which run beside the pages."""
    if path == "/health":
        page.locator("main table").wait_for(timeout=120_000)
        page.locator("main .badge.wait", has_text="Checking").wait_for(state="hidden", timeout=120_000)


def too_wide(page: Page) -> int | None:
    """How wide the page is, where it does not fit its window."""
    widths: list[int] = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    return widths[0] if widths[0] > widths[1] else None


def draw(page: Page, path: Path) -> None:
    """Write a picture of the window in 128 colours, which keeps the repository small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        drawn = page.screenshot()
    except Error:
        # On a machine with too much to do, Chromium now and then has no frame to hand out.
        page.wait_for_timeout(1000)
        drawn = page.screenshot()
    with Image.open(io.BytesIO(drawn)) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
