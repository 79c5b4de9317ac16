"""A person who uses a page by keyboard alone, and sees at each stop where they are."""

from __future__ import annotations

from dataclasses import dataclass

from playwright.sync_api import Page

_MOST_STOPS = 120
_HERE = """
() => {
  const here = document.activeElement;
  const style = getComputedStyle(here);
  const box = here.getBoundingClientRect();
  return {
    name: (here.labels?.[0]?.innerText || here.getAttribute('aria-label') || here.innerText || '').trim(),
    tag: here.tagName.toLowerCase(),
    isMarked: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
    isSeen: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0,
  };
}
"""


@dataclass(slots=True)
class Keyboard:
    """Presses keys on a page; there is no mouse.

    Attributes:
        stops: how often the focus moved.
    """

    page: Page
    stops: int = 0

    def to(self, name: str, tag: str = "") -> None:
        """Press Tab until something with this name has the focus; each stop on the way must be visible."""
        seen = []
        for _ in range(_MOST_STOPS):
            here = self.page.evaluate(_HERE)
            if here["name"].startswith(name) and here["tag"] == (tag or here["tag"]):
                return
            self.page.keyboard.press("Tab")
            self.stops += 1
            here = self.page.evaluate(_HERE)
            if here["tag"] != "body":
                assert here["isMarked"], f"no visible focus at {here}"
                assert here["isSeen"], f"the focus is out of sight at {here}"
            seen.append(here["name"])
        raise AssertionError(f"{name} is not reached: {seen}")

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        for key in keys:
            self.page.keyboard.press(key)

    def follow(self, name: str, tag: str = "") -> None:
        """Go to a link or a button, press Enter, and wait for the page that it leads to."""
        self.to(name, tag)
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def fill(self, name: str, text: str) -> None:
        """Go to a field and type."""
        self.to(name)
        self.page.keyboard.type(text)
