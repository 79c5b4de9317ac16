"""All pages of the site's console, and its menu."""

from __future__ import annotations

from client.console.desk import APPROVER, AUDITOR, EVERYBODY, IT, READERS, ROLES, STEWARD, Desk
from client.console.pages import (
    approvals,
    case,
    code,
    data,
    decisions,
    doubtful,
    evidence,
    find,
    log,
    queue,
    register,
    today,
)
from client.revocations.revocation import State
from client.runtime.doctor import examine
from common.platform.console.page import NavItem, Page
from common.platform.console.people import People, people_pages
from common.platform.console.shared_pages.health import health_pages
from common.platform.console.shared_pages.settings import SettingsPage


def site_pages(desk: Desk) -> list[Page]:
    """Every page but those of the kit."""
    rooms = (
        today, register, queue, case, decisions, approvals, doubtful, find, evidence, data, code, log
    )  # fmt: skip
    manage = People(desk.accounts, desk.settings.console.openid, ROLES, frozenset({IT, AUDITOR}), frozenset({IT}))
    clock = desk.ledger.clock
    # The console runs without the site's keys, so checks that need them are left out here.
    health = health_pages(lambda: examine(desk.folder, clock(), opens_keys=False), clock, EVERYBODY, "fedforget-site")
    settings = SettingsPage(
        "/settings",
        "Settings",
        "fedforget-site settings set",
        "site.toml",
        desk.folder.settings,
        frozenset({IT, AUDITOR}),
    )
    of_rooms = [page for room in rooms for page in room.pages(desk)]

    return [*of_rooms, *health, settings.page(), *people_pages(manage)]


def menu(desk: Desk) -> list[NavItem]:
    """The entries of the menu."""

    def waiting() -> int:
        return desk.index.counts().get(State.AWAITING_APPROVAL, 0)

    def in_doubt() -> int:
        return doubtful.waiting(desk)

    steward = frozenset({STEWARD})
    return [
        NavItem("/", "Today", EVERYBODY),
        NavItem("/register", "Register", steward),
        NavItem("/queue", "Queue", READERS),
        NavItem("/approvals", "Approvals", frozenset({APPROVER, STEWARD}), count=waiting),
        NavItem("/doubtful", "Doubtful", frozenset({STEWARD, APPROVER}), count=in_doubt),
        NavItem("/opt-outs", "Opt-outs", READERS),
        NavItem("/find", "Find patient", frozenset({STEWARD, AUDITOR})),
        NavItem("/data", "Data", EVERYBODY),
        NavItem("/code", "Code and bounds", frozenset({IT, AUDITOR})),
        NavItem("/health", "Health", EVERYBODY),
        NavItem("/log", "Log", frozenset({AUDITOR, IT, STEWARD})),
        NavItem("/people", "People", frozenset({IT, AUDITOR})),
        NavItem("/settings", "Settings", frozenset({IT, AUDITOR})),
    ]
