"""Plans the next campaign from the coordinator's database, where the policy says that one is to begin."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import select

from common.errors import RefusedError
from common.platform.sql import transaction
from server.campaign.context import CoordinatorContext
from server.campaign.policy import Start, decide, overdue
from server.campaign.waiting import renewal, report_escalated, site_states
from server.database import CampaignRow, PhaseRow

log = logging.getLogger("fedforget.coordinator")


def plan(house: CoordinatorContext) -> None:
    """Plan a campaign if the policy says so."""
    now = house.store.clock()
    settings = house.settings
    active = house.registry.active()
    # The first training is asked for by a person; until then there is nothing to forget from.
    if active is None:
        return
    with transaction(house.engine) as session:
        sites = site_states(session, settings.policy)
        report_escalated(session, sites, settings.policy, now)
        renew = renewal(session, settings.policy)

    one = settings.experiment.campaign.aggregation == "replace"
    recent = recent_campaigns(house, now)
    # What is overdue comes before what the policy would collect further.
    decision = overdue(now, sites, settings.policy, recent) or decide(
        now, sites, settings.policy, running=False, recent=recent, at_once=1 if one else None, renewal=renew
    )

    if isinstance(decision, Start):
        chosen_sites = [site for site in sites if site.name in decision.sites]
        due = min((at for site in chosen_sites if (at := site.due(settings.policy)) is not None), default=None)
        terms = house.terms.model_dump(mode="json")

        try:
            number = house.store.plan(
                decision.kind, terms, parent=active.name, due=due, reason=decision.reason, sites=decision.sites
            )
        # Somebody has planned one by hand since the look at the store.
        except RefusedError:
            return

        log.info("campaign %d (%s) is planned: %s", number, decision.kind, decision.reason)


def recent_campaigns(house: CoordinatorContext, now: datetime) -> dict[str, list[datetime]]:
    """When campaigns for each site began within the last day, and when it unlearned in one."""
    since = now - timedelta(days=1)
    recent: dict[str, list[datetime]] = {}

    with transaction(house.engine) as session:
        steps = select(PhaseRow).where(PhaseRow.step.startswith("unlearn:"), PhaseRow.finished > since)
        sites_unlearned = {
            (row.campaign, row.step.removeprefix("unlearn:")): row.finished for row in session.scalars(steps)
        }
        campaigns = select(CampaignRow).where(CampaignRow.created > since, CampaignRow.sites.is_not(None))
        for row in session.scalars(campaigns):
            for name in row.sites or ():
                # A site that has not unlearned in it yet counts from the campaign's plan.
                sites_unlearned.setdefault((row.number, name), row.created)

    for (_, name), at in sites_unlearned.items():
        recent.setdefault(name, []).append(at)
    return recent
