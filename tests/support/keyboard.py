"""A person who uses a page by keyboard alone, and sees at each stop where they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page

_MOST_STOPS = 120
_HERE = """
() => {
  const here = document.activeElement;
  const style = getComputedStyle(here);
  const box = here.getBoundingClientRect();
  return {
    name: (here.labels?.[0]?.innerText || here.getAttribute('aria-label') || here.innerText || here.placeholder || '')
      .trim(),
    tag: here.tagName.toLowerCase(),
    href: here.getAttribute('href') || '',
    isMarked: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
    isSeen: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0,
  };
}
"""


@dataclass(slots=True)
class Keyboard:
    """Presses keys on a page; there is no mouse.

    Attributes:
        foreign: start of the addresses of pages that are not ours; whether their focus is marked is not our matter.
        stops: how often the focus moved.
    """

    page: Page
    foreign: str = "none:"
    stops: int = 0

    def to(self, name: str = "", tag: str = "", *, href: str = "", key: str = "Tab") -> None:
        """Press Tab until something with this name or address has the focus; each stop on the way must be visible."""
        seen = []
        for _ in range(_MOST_STOPS):
            here = self.page.evaluate(_HERE)
            is_named = here["name"].startswith(name) if name else here["href"] == href
            if is_named and here["tag"] == (tag or here["tag"]):
                return
            self.page.keyboard.press(key)
            self.stops += 1
            here = self.page.evaluate(_HERE)
            if here["tag"] != "body" and not self.page.url.startswith(self.foreign):
                assert here["isMarked"], f"no visible focus at {here}"
                assert here["isSeen"], f"the focus is out of sight at {here}"
            seen.append(here["name"])
        raise AssertionError(f"{name or href} is not reached: {seen}")

    def back_to(self, name: str) -> None:
        """Go back to something that was passed, by Shift and Tab."""
        self.to(name, key="Shift+Tab")

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        for key in keys:
            self.page.keyboard.press(key)

    def follow(self, name: str = "", tag: str = "", *, href: str = "") -> None:
        """Go to a link or a button, press Enter, and wait for the page that it leads to."""
        self.to(name, tag, href=href)
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def fill(self, name: str, text: str) -> None:
        """Go to a field and type."""
        self.to(name)
        self.page.keyboard.type(text)

    def attach(self, name: str, file: Path) -> None:
        """Go to a field for a file, and open the system's chooser."""
        # Begun before the way to the field: Chromium needs a moment until it hands choosers to the test.
        with self.page.expect_file_chooser() as waiting:
            self.to(name)
            self.page.keyboard.press("Enter")
        waiting.value.set_files(file)

    def download(self, link: str, to: Path) -> Path:
        """Go to a link and save what it leads to."""
        self.to(link)
        with self.page.expect_download(timeout=120_000) as waiting:
            self.page.keyboard.press("Enter")
        waiting.value.save_as(to)

        return to
