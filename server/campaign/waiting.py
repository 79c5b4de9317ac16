"""What the coordinator's record says of sites whose revocations wait: what the policy decides by, and people see."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.campaign.policy import SiteState
from server.campaign.running.tries import backoff
from server.campaign.store import BATCHED
from server.database import CampaignRow, EventRow, PhaseRow, SiteRow, VersionRow
from server.membership.registration import waiting as waiting_count
from server.registry.manifest import Manifest
from server.rounds.states import CampaignState
from server.settings import PolicyConfig

FORGETTING = ("unlearning", "retraining")
"""Kinds of campaigns by which patients are forgotten."""
_UNSUCCESSFUL = (CampaignState.FAILED, CampaignState.REJECTED, CampaignState.INCONCLUSIVE)
_LONGEST = timedelta(days=1)
_TRAIN = "train"
"""`Subset.TRAIN`, without importing the model's code."""


def site_states(session: Session, policy: PolicyConfig) -> list[SiteState]:
    """Every enrolled site that is not revoked, by name."""
    rows = session.scalars(select(SiteRow).where(SiteRow.state != "revoked").order_by(SiteRow.name)).all()
    # Newest first: failures in a row are counted back to the last campaign that was published.
    campaigns_before = session.scalars(
        select(CampaignRow)
        .where(CampaignRow.kind.in_(FORGETTING), CampaignRow.open.is_(None))
        .order_by(CampaignRow.number.desc())
    ).all()
    batches = frozenset(session.scalars(select(PhaseRow.campaign).where(PhaseRow.step == BATCHED)))
    seen_by_model = _in_the_lineage(session)
    states = []

    for row in rows:
        failures, is_batched = _failed_in_a_row(row.name, campaigns_before, batches)
        free_at = (
            failures[0].changed + backoff(len(failures), timedelta(minutes=policy.retry_minutes), _LONGEST)
            if failures
            else None
        )
        retrainings = _retrained_since_unlearning(row.name, campaigns_before)
        states.append(
            SiteState(
                row.name,
                active=row.state == "active",
                pending=row.pending,
                waiting_since=row.announced,
                first_due=row.first_due,
                failures=len(failures),
                free_at=max((at for at in (free_at, row.aside_until) if at is not None), default=None),
                aside_until=row.aside_until,
                absent=seen_by_model is not None and row.name not in seen_by_model,
                last_failure=f"campaign {failures[0].number} is {failures[0].state}: {failures[0].reason}"
                if failures
                else "",
                retrainings=len(retrainings),
                is_answered=bool(retrainings and row.announced and retrainings[0].created >= row.announced),
                is_batched=is_batched,
            )
        )

    return states


def needs(session: Session, policy: PolicyConfig) -> dict[str, list[str]]:
    """What a person has to see to, by site."""
    needs_by_site: dict[str, list[str]] = {}

    for site in site_states(session, policy):
        conditions = []
        if site.pending and site.needs_person(policy):
            conditions.append(f"{site.failures} campaigns in a row forgot nobody here; {site.last_failure}")
        elif site.pending and site.failures:
            conditions.append(f"the last campaign forgot nobody here; {site.last_failure}")

        if site.pending and site.leaves_it_to_others(policy):
            conditions.append(f"retrained around {site.retrainings} times, and it has not unlearned since")
        if site.aside_until is not None:
            conditions.append(f"does not unlearn, set aside until {site.aside_until:%Y-%m-%d %H:%M} UTC")
        count = waiting_count(session, site.name)
        if count is not None:
            conditions.append(
                f"registers {count.train_studies} studies: site approve-counts {site.name} {count.train_studies}"
            )
        if conditions:
            needs_by_site[site.name] = conditions

    return needs_by_site


def earliest_due(session: Session, policy: PolicyConfig) -> datetime | None:
    """Of all revocations that wait anywhere, but for those of a hospital that only says so: see `overdue`."""
    waiting = [
        site
        for site in site_states(session, policy)
        if site.pending and not site.is_answered and not site.leaves_it_to_others(policy)
    ]
    return min((due for site in waiting if (due := site.due(policy)) is not None), default=None)


def report_escalated(session: Session, sites: Sequence[SiteState], policy: PolicyConfig, now: datetime) -> None:
    """Write down, once for each campaign that failed, which sites' campaigns need a person from here on."""
    for site in sites:
        if not site.pending or not (site.needs_person(policy) or site.leaves_it_to_others(policy)):
            continue
        detail = f"needs a person after {site.failures} campaigns without a version; {site.last_failure}"
        if not site.needs_person(policy):
            detail = f"needs a person: retrained around {site.retrainings} times, and it has not unlearned since"
        # The text tells reports apart: it changes with each further failure, which is then reported as well.
        escalations = select(EventRow.id).where(EventRow.site == site.name, EventRow.kind == "escalated")
        if session.scalars(escalations.where(EventRow.detail == detail)).first() is None:
            session.add(EventRow(at=now, site=site.name, kind="escalated", detail=detail))


def _failed_in_a_row(
    name: str, ended: Sequence[CampaignRow], batched: frozenset[int]
) -> tuple[list[CampaignRow], bool]:
    """The newest campaigns for a site's revocations, as far back as none of them was published.

    One that left its patients to the next retraining is no failure: the second value says whether there is one.
    """
    failures = []
    is_batched = False

    for row in ended:
        if row.sites is None or name not in row.sites:
            # A retraining forgets whoever waits, also where it was not planned for them.
            if row.kind == "retraining" and row.state == CampaignState.PUBLISHED:
                break
            continue

        if row.state == CampaignState.PUBLISHED:
            break
        if row.number in batched:
            is_batched = True
        elif row.state in _UNSUCCESSFUL:
            failures.append(row)

    return failures, is_batched


def _retrained_since_unlearning(name: str, ended: Sequence[CampaignRow]) -> list[CampaignRow]:
    """Published retrainings that were planned for a site, the newest first, back to the last time it unlearned."""
    retrainings = []

    for row in ended:
        if row.state != CampaignState.PUBLISHED or name not in (row.sites or ()):
            continue
        if row.kind == "unlearning":
            break
        retrainings.append(row)

    return retrainings


def renewal(session: Session, policy: PolicyConfig) -> str:
    """Why the next campaign should retrain by `renew_after`; empty where it should not."""
    if not policy.renew_after:
        return ""
    since = _campaigns_since_training(session)
    if policy.renew_after >= 1:
        is_reached = len(since) >= policy.renew_after
        return f"renewal: {len(since)} campaigns since the last training" if is_reached else ""

    steps = select(PhaseRow).where(PhaseRow.campaign.in_(since), PhaseRow.step == "collect").order_by(PhaseRow.id)
    bodies = [row.body for row in session.scalars(steps)]
    forgotten = sum(body.get("patients", 0) for body in bodies)
    # As of the first campaign since the training: later registrations lack those who were forgotten.
    first = bodies[0].get("registered", {}) if bodies else {}
    studies_before = sum(counts.get(_TRAIN, 0) for counts in first.values())
    if not studies_before or forgotten < policy.renew_after * studies_before:
        return ""
    return f"renewal: {forgotten} of {studies_before} training patients forgotten since the last training"


def _campaigns_since_training(session: Session) -> list[int]:
    """Of the active version's line, oldest first; without the training that it began with."""
    row = session.scalars(select(VersionRow).where(VersionRow.state == "active")).first()
    numbers: list[int] = []
    while row is not None and row.parent:
        if row.campaign is not None:
            numbers.insert(0, row.campaign)
        row = session.get(VersionRow, row.parent)

    return numbers


def _in_the_lineage(session: Session) -> frozenset[str] | None:
    """Sites that the active version learned from, itself or by its parents; None without an active version."""
    row = session.scalars(select(VersionRow).where(VersionRow.state == "active")).first()
    if row is None:
        return None
    sites: set[str] = set()
    while row is not None:
        sites |= set(Manifest.model_validate(row.manifest).provenance.sites)
        row = session.get(VersionRow, row.parent) if row.parent else None

    return frozenset(sites)
