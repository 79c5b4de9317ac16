"""How often a hospital sent what was not taken, did not unlearn, or vetoed: what a person looks at before acting."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.database import EventRow, PhaseRow, SiteRow

LOOKED_AT = timedelta(days=90)
REPEATED = 2
"""So many of a kind are reported."""
_KINDS = {
    "quarantined": "bad replies",
    "set-aside": "campaigns in which it did not unlearn",
    "held-up": "campaigns that it held up",
    "not-answered": "attestations that it did not answer",
    "not-signed": "attestations that it did not sign",
}
_VETOES = "candidates that it alone vetoed"


@dataclass(frozen=True, slots=True)
class Conduct:
    """Counts of one hospital within `LOOKED_AT`, by what they count."""

    counts: Counter[str]

    @property
    def repeated(self) -> str:
        """What happened more than once, in words; empty if nothing did."""
        often = {what: count for what, count in sorted(self.counts.items()) if count >= REPEATED}
        return ", ".join(f"{count} {what}" for what, count in often.items())


def conduct(session: Session, now: datetime) -> dict[str, Conduct]:
    """Of every hospital of which there is anything to say."""
    counts_by_site: dict[str, Counter[str]] = defaultdict(Counter)
    since = now - LOOKED_AT
    events = select(EventRow.site, EventRow.kind).where(EventRow.kind.in_(_KINDS), EventRow.at > since)
    for site, kind in session.execute(events):
        if site is not None:
            counts_by_site[site][_KINDS[kind]] += 1

    # A trained model is measured at all sites: a loss there says something of the training and of no hospital.
    site_names = set(session.scalars(select(SiteRow.name)))
    verdicts = select(PhaseRow).where(PhaseRow.step == "verdict", PhaseRow.finished > since)
    for row in session.scalars(verdicts):
        casting = {str(text).split(":")[0] for text in row.body.get("vetoes", ())} & site_names
        # Several that fare worse have seen a bad candidate; one by itself may have made its loss up.
        if len(casting) == 1:
            counts_by_site[casting.pop()][_VETOES] += 1

    return {site: Conduct(counts) for site, counts in counts_by_site.items()}
