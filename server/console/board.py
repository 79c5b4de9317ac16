"""All pages of the coordinator's console, and its menu."""

from __future__ import annotations

from common.platform.console.page import NavItem, Page
from common.platform.console.people import People, people_pages
from server.console.desk import EVERYBODY, OPERATORS, ROLES, Desk
from server.console.pages import (
    attestations,
    campaigns,
    decisions,
    health,
    log,
    models,
    overview,
    policy,
    sites,
)


def board_pages(desk: Desk) -> list[Page]:
    """Every page but those of the kit."""
    rooms = (overview, sites, campaigns, decisions, models, attestations, policy, log, health)
    manage = People(desk.accounts, desk.house.settings.console.openid, ROLES, EVERYBODY, OPERATORS)
    return [*(page for room in rooms for page in room.pages(desk)), *people_pages(manage)]


def menu() -> list[NavItem]:
    """The entries of the menu."""
    entries = (
        ("/", "Overview"),
        ("/sites", "Hospitals"),
        ("/campaigns", "Campaigns"),
        ("/models", "Models"),
        ("/attestations", "Attestations"),
        ("/policy", "Policy"),
        ("/log", "Log"),
        ("/health", "Health"),
        ("/people", "Administrators"),
    )
    return [NavItem(path, label, EVERYBODY) for path, label in entries]
