"""All pages of the coordinator's console, and its menu."""

from __future__ import annotations

from common.platform.console.page import NavItem, Page
from common.platform.console.people import People, people_pages
from common.platform.console.shared_pages.health import health_pages
from common.platform.console.shared_pages.settings import SettingsPage
from server.console.desk import EVERYBODY, OPERATORS, ROLES, Desk
from server.console.pages import (
    attestations,
    campaigns,
    decisions,
    log,
    models,
    overview,
    qualification,
    sites,
    training,
)
from server.runtime.doctor import examine

_NOTE = "An open campaign keeps the settings it was planned with."


def board_pages(desk: Desk) -> list[Page]:
    """Every page but those of the kit."""
    rooms = (overview, sites, campaigns, decisions, models, training, qualification, attestations, log)
    manage = People(desk.accounts, desk.house.settings.console.openid, ROLES, EVERYBODY, OPERATORS)
    folder = desk.house.folder
    clock = desk.house.store.clock
    health = health_pages(lambda: examine(folder, clock(), opens_keys=False), clock, EVERYBODY, "fedforget-server")
    policy = SettingsPage(
        "/policy",
        "Policy",
        "fedforget-server settings set",
        "server.toml",
        folder.settings,
        EVERYBODY,
        first=("policy.", "gate."),
        note=_NOTE,
    )
    of_rooms = [page for room in rooms for page in room.pages(desk)]

    return [*of_rooms, *health, policy.page(), *people_pages(manage)]


def menu() -> list[NavItem]:
    """The entries of the menu."""
    entries = (
        ("/", "Overview"),
        ("/sites", "Hospitals"),
        ("/campaigns", "Campaigns"),
        ("/models", "Models"),
        ("/training", "Training"),
        ("/qualification", "Qualification"),
        ("/attestations", "Attestations"),
        ("/policy", "Policy"),
        ("/log", "Log"),
        ("/health", "Health"),
        ("/people", "People"),
    )
    return [NavItem(path, label, EVERYBODY) for path, label in entries]
