"""Hospitals that do not unlearn: no campaign waits for them for ever, and people see it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import select

from common.platform.sql import transaction
from server.campaign.store import CampaignStore
from server.database import EventRow, SiteRow
from server.settings import PolicyConfig

_LONGEST = timedelta(days=7)


def set_aside(
    store: CampaignStore, number: int, sites: Collection[str], refused: Collection[str], policy: PolicyConfig, why: str
) -> tuple[str, ...]:
    """Plan no campaign for `sites` for a while; those that `refused` are suspended if the policy says so: which."""
    now = store.clock()
    shut_out = []

    with transaction(store.engine) as session:
        for name in sorted(sites):
            row = session.get(SiteRow, name, with_for_update=True)
            if row is None:
                continue
            row.refusals += 1
            hours = timedelta(hours=policy.aside_hours)
            row.aside_until = now + min(_LONGEST, hours * 2 ** min(row.refusals - 1, 30))
            how = "refused to unlearn" if name in refused else "did not answer"
            detail = f"{how}, set aside until {row.aside_until:%Y-%m-%d %H:%M} UTC: {why}"
            session.add(EventRow(at=now, campaign=number, site=name, kind="set-aside", detail=detail))

            if name in refused and policy.refuser == "suspend" and row.state == "active":
                row.state = "suspended"
                shut_out.append(name)
                detail = f"refused to unlearn in {policy.unlearn_tries} tries"
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
