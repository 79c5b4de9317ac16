"""Every message of the kit and of the two consoles is translated, and a translation keeps its values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from babel.messages.pofile import read_po
from console_messages import ROOT, messages, untranslated

from client.console.desk import PURPOSES, ROLES
from client.console.pages.register import CHECKS, REQUESTERS
from client.console.words import KINDS, SCOPES, SETS, SOURCES, STATES
from server.console.board import menu
from server.console.desk import ROLES as BOARD_ROLES
from server.console.words import (
    CAMPAIGN_KINDS,
    CAMPAIGN_STATES,
    CRITERIA,
    OUTCOMES,
    QUALIFICATION_STATES,
    SITE_STATES,
    VERSION_STATES,
)

KIT = ROOT / "common" / "platform" / "console"
SITE = ROOT / "client" / "console"
BOARD = ROOT / "server" / "console"
WORDS = {
    *(name for _, name in STATES.values()),
    *(word for words in (KINDS, SOURCES, SCOPES, SETS, ROLES, PURPOSES, CHECKS, REQUESTERS) for word in words.values()),
}
BADGES = (CAMPAIGN_STATES, SITE_STATES, VERSION_STATES, OUTCOMES, QUALIFICATION_STATES)
BOARD_WORDS = {
    *(
        name
        for states in (CAMPAIGN_STATES, SITE_STATES, VERSION_STATES, OUTCOMES, QUALIFICATION_STATES)
        for _, name in states.values()
    ),
    *CAMPAIGN_KINDS.values(),
    *CRITERIA.values(),
    *BOARD_ROLES.values(),
    *(item.label for item in menu()),
}
_VALUE = re.compile(r"%\(\w+\)s")


@pytest.mark.parametrize("language", ["de", "fr"])
def test_every_message_is_translated(language: str) -> None:
    kit = messages(KIT)
    assert len(kit) > 80
    assert untranslated(language, kit, KIT / "locales") == set()
    board = messages(BOARD)
    assert len(board) > 80
    assert untranslated(language, board | BOARD_WORDS, KIT / "locales", BOARD / "locales") == set()
    site = messages(SITE)
    assert len(site) > 200
    assert untranslated(language, site | WORDS, KIT / "locales", SITE / "locales") == set()


@pytest.mark.parametrize("language", ["de", "fr"])
@pytest.mark.parametrize("folder", [KIT, SITE, BOARD])
def test_a_translation_has_the_values_of_its_message_and_no_other_markup(language: str, folder: Path) -> None:
    with (folder / "locales" / f"{language}.po").open("rb") as file:
        for message in read_po(file, locale=language):
            ids = message.id if isinstance(message.id, tuple) else (message.id,)
            texts = [message.string] if isinstance(message.string, str) else message.string or ()
            for original, text in zip(ids, texts, strict=True):
                if original:
                    assert sorted(_VALUE.findall(str(original))) == sorted(_VALUE.findall(text)), original
                    assert re.findall(r"<[^>]+>", str(original)) == re.findall(r"<[^>]+>", text), original
