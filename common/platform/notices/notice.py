"""What a notice says, as values and as text. It can hold counts, receipts, campaign numbers and names of hospitals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Literal

from common.errors import UnavailableError
from common.platform.console.languages import Languages
from common.platform.console.settings import Language

Kind = Literal["digest", "escalation", "test"]

MOST_SHOWN = 20
"""Receipts or names behind one count."""
_ITEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
"""A receipt, the number of a campaign, or the name of a hospital."""
_SUBJECTS = {
    "digest": "FedForget %(house)s: what needs you today",
    "escalation": "FedForget %(house)s: answers are due soon",
    "test": "FedForget %(house)s: a test",
}
_TEST = "This is a test. Notices reach you."
_NOTHING = "Nothing needs you today."
_NEXT = "Next due date: %(day)s"
_MORE = "and %(num)s more"
_CLOSING = "This notice names no patient. Look a receipt up in the console or at the command line."
TEXTS = frozenset({*_SUBJECTS.values(), _TEST, _NOTHING, _NEXT, _MORE, _CLOSING})
"""All sentences, for a test of the catalogues."""


class UnansweredError(UnavailableError):
    """A message went to a server that did not say whether it took it."""


@dataclass(frozen=True, slots=True)
class Line:
    """A count of what needs somebody.

    Attributes:
        text: a message of the catalogue; `%(days)s` stands for `days`.
        items: the first of these receipts, campaigns or hospitals; other texts are left out.
    """

    text: str
    count: int
    items: tuple[str, ...] = ()
    days: int = 0


@dataclass(frozen=True, slots=True)
class Notice:
    """What goes out.

    Attributes:
        house: name of the hospital or federation.
        lines: counts that are not zero are shown.
        due: the next due date.
        address: of the console; empty: none.
    """

    kind: Kind
    house: str
    at: datetime
    lines: tuple[Line, ...] = ()
    due: datetime | None = None
    address: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it says that nothing needs anybody."""
        return not any(line.count for line in self.lines)


@dataclass(frozen=True, slots=True)
class Message:
    """A notice in words."""

    kind: Kind
    subject: str
    text: str
    address: str = ""


def written(notice: Notice, language: Language) -> Message:
    """A notice in a language."""
    catalogues = Languages([files("common.platform.notices").joinpath("locales")])
    subject = catalogues.text(language, _SUBJECTS[notice.kind], house=notice.house)
    text = "\n".join(_paragraphs(notice, language, catalogues))
    return Message(notice.kind, subject, text + "\n", notice.address)


def _paragraphs(notice: Notice, language: Language, catalogues: Languages) -> Iterator[str]:
    if notice.kind == "test":
        yield catalogues.text(language, _TEST)
        return

    yield f"{notice.house}, {catalogues.day(language, notice.at)}"
    yield ""
    for line in notice.lines:
        if line.count:
            label = catalogues.text(language, line.text, days=line.days)
            yield f"{label}: {catalogues.number(language, line.count)}"
            yield from _shown(line, language, catalogues)

    if notice.is_empty:
        yield catalogues.text(language, _NOTHING)
    if notice.due is not None:
        yield catalogues.text(language, _NEXT, day=catalogues.day(language, notice.due))
    yield ""
    if notice.address:
        yield notice.address
        yield ""
    yield catalogues.text(language, _CLOSING)


def _shown(line: Line, language: Language, catalogues: Languages) -> Iterator[str]:
    # Whatever does not look like a receipt or a name stays out: a notice must not carry a patient's name.
    items = [item for item in line.items if _ITEM.fullmatch(item)][:MOST_SHOWN]
    for item in items:
        yield f"  {item}"
    if len(items) < line.count:
        yield "  " + catalogues.text(language, _MORE, num=catalogues.number(language, line.count - len(items)))
