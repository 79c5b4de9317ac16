"""Every setting in force, to read. A change is made in the file, where it has a history."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import Response

from common.platform.console.page import Page, Visit
from common.platform.settings_file import flattened
from common.settings import Settings

_HIDDEN = "(hidden)"
_WITH_PASSWORD = re.compile(r"://[^/?#]*@")


@dataclass(frozen=True, slots=True)
class SettingsPage:
    """What differs between the two sides.

    Attributes:
        title: a message of the side's catalogue.
        command: which changes them.
        file: which holds them.
        read: the settings as they stand.
        first: beginnings of the names that come first.
        note: what else holds; a message of the side's catalogue.
    """

    path: str
    title: str
    command: str
    file: str
    read: Callable[[], Settings]
    roles: frozenset[str]
    first: tuple[str, ...] = ()
    note: str = ""

    def page(self) -> Page:
        """The page."""

        def show(visit: Visit) -> Response:
            rows = [(name, _shown(value)) for name, value in flattened(self.read().model_dump()).items()]
            if self.first:
                rows.sort(key=lambda row: (not row[0].startswith(self.first), row[0]))
            heading = visit.text(self.title)
            note = visit.text(self.note) if self.note else ""
            return visit.render(
                "settings.html.j2", rows=rows, heading=heading, note=note, command=self.command, file=self.file
            )

        return Page(self.path, show, roles=self.roles)


def _shown(value: object) -> str:
    """A value, or several with commas; an address with a user is hidden, for its password stands beside the name."""
    if isinstance(value, bool):
        return str(value).lower()  # as in the file
    if not value and not isinstance(value, int | float):
        return "–"
    if isinstance(value, float):
        return f"{value:.12g}"
    text = ", ".join(str(one) for one in value) if isinstance(value, list | tuple) else str(value)
    return _HIDDEN if _WITH_PASSWORD.search(text) else text
