"""Hospitals that do not unlearn: no campaign waits for them for ever, and people see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import select

from common.platform.sql import transaction
from server.campaign.store import CampaignStore
from server.database import EventRow, SiteRow
from server.settings import PolicyConfig

REFUSED = "refused"
SILENT = "no-answer"
"""Kinds of events: a try in which a hospital answered and did not unlearn, and one in which it did not answer."""
_LONGEST = timedelta(days=7)


def note_tries(store: CampaignStore, number: int, sites: Collection[str], refused: Collection[str]) -> None:
    """Take down a try of a campaign in which `sites` did not unlearn, for each of them."""
    now = store.clock()

    with transaction(store.engine) as session:
        for name in sorted(sites):
            kind = REFUSED if name in refused else SILENT
            detail = "refused to unlearn" if name in refused else "did not unlearn in time"
            session.add(EventRow(at=now, campaign=number, site=name, kind=kind, detail=detail))


def tries_of(store: CampaignStore, number: int, kinds: Collection[str] = (REFUSED, SILENT)) -> Counter[str]:
    """In how many tries of a campaign each hospital did not unlearn."""
    of_campaign = select(EventRow.site).where(EventRow.campaign == number, EventRow.kind.in_(kinds))
    with transaction(store.engine) as session:
        return Counter(site for site in session.scalars(of_campaign) if site is not None)


def set_aside(
    store: CampaignStore, number: int, sites: Collection[str], policy: PolicyConfig, why: str
) -> tuple[str, ...]:
    """Plan no campaign for `sites` for a while; returns those that are suspended for it.

    The policy may suspend a hospital that has refused in `policy.unlearn_tries` tries of the campaign, and in no fewer.
    """
    refusals = tries_of(store, number, (REFUSED,))
    now = store.clock()
    shut_out = []

    with transaction(store.engine) as session:
        for name in sorted(sites):
            row = session.get(SiteRow, name, with_for_update=True)
            if row is None:
                continue
            row.refusals += 1
            hours = timedelta(hours=policy.aside_hours)
            # The exponent is capped, as a timedelta cannot hold more.
            row.aside_until = now + min(_LONGEST, hours * 2 ** min(row.refusals - 1, 30))
            how = "refused to unlearn" if refusals[name] else "did not unlearn in time"
            detail = f"{how}, set aside until {row.aside_until:%Y-%m-%d %H:%M} UTC: {why}"
            session.add(EventRow(at=now, campaign=number, site=name, kind="set-aside", detail=detail))

            refused_enough = refusals[name] >= policy.unlearn_tries
            if refused_enough and policy.refuser == "suspend" and row.state == "active":
                row.state = "suspended"
                shut_out.append(name)
                detail = f"refused to unlearn in {refusals[name]} tries"
                session.add(EventRow(at=now, campaign=number, site=name, kind="suspended", detail=detail))

    return tuple(shut_out)


def suspended(store: CampaignStore) -> frozenset[str]:
    """Sites that are asked for nothing at present."""
    with transaction(store.engine) as session:
        return frozenset(session.scalars(select(SiteRow.name).where(SiteRow.state != "active")))


def unlearned(store: CampaignStore, sites: Collection[str]) -> None:
    """These sites did unlearn: what was held against them is over."""
    with transaction(store.engine) as session:
        for name in sorted(sites):
            row = session.get(SiteRow, name, with_for_update=True)
            if row is not None:
                row.refusals = 0
                row.aside_until = None
