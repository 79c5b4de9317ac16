"""Trainings and unlearning that a person asks for, by the command line or the console."""

from __future__ import annotations

from server.campaign.context import CoordinatorContext
from server.database import SiteRow


def asked_of(house: CoordinatorContext) -> list[SiteRow]:
    """The active hospitals with revocations; under `replace`, which takes one at a time, the one that is due first."""
    waiting = [site for site in house.sites() if site.state == "active" and site.pending]
    if house.settings.experiment.campaign.aggregation == "replace":
        # `~` sorts after every date, so that a site without one comes last.
        waiting = sorted(waiting, key=lambda site: (str(site.first_due or "~"), site.name))[:1]

    return waiting


def plan_unlearning(house: CoordinatorContext, parent: str, waiting: list[SiteRow], reason: str) -> int:
    """Plan a campaign on the version `parent`, and return its number.

    Raises:
        RefusedError: a campaign is open.
    """
    due = min((site.first_due for site in waiting if site.first_due), default=None)
    terms = house.terms.model_dump(mode="json")
    # What a hospital has not announced yet is asked for when the campaign begins.
    names = [site.name for site in waiting] or None

    return house.store.plan("unlearning", terms, parent=parent, due=due, reason=reason, sites=names)


def waiting_sites(house: CoordinatorContext) -> list[str]:
    """Hospitals with revocations, whose patients a training would leave out and so forget."""
    return [site.name for site in house.sites() if site.pending and site.state != "revoked"]


def plan_training(house: CoordinatorContext, reason: str) -> int:
    """Plan a training with all hospitals, and return its number; while revocations wait, it is a retraining.

    Raises:
        ConfigError: `server.toml` names no classes, or a folder that holds no encoder that fits.
        RefusedError: a campaign is open.
    """
    house.card  # noqa: B018 - raises where no model can be built
    terms = house.terms.model_dump(mode="json")
    waiting = waiting_sites(house)
    if not waiting:
        return house.store.plan("training", terms, parent=None, due=None, reason=reason)

    # The training leaves out who has revoked: the versions that saw them must go with it.
    active = house.registry.active()
    return house.store.plan(
        "retraining",
        terms,
        parent=active.name if active else None,
        due=None,
        reason=f"{reason} while revocations wait at {', '.join(waiting)}",
        sites=waiting,
    )
