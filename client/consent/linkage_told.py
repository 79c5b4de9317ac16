"""What other hospitals were told of a patient's revocation by linkage, as far as this site knows.

They are told through the coordinator, and none says back whether it knows the patient: that would tell who is treated
where.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select

from client.consent.ledger import Ledger
from client.consent.ledger_tables import LinkPeersRow, LinkTokenRow
from client.consent.linkage import NOT_YET, Linkage
from client.consent.revocation import Standing
from common.sql import reading

How = Literal["not-linked", "from-another", "undecided", "no-identifier", "waiting", "nobody", "told"]


@dataclass(frozen=True, slots=True)
class Told:
    """Whether others were told.

    Attributes:
        how: `not-linked`: no linkage is configured; `from-another`: it came from another hospital and is not handed
            on; `undecided`: it is not, before it is decided here; `no-identifier`: the patient has none that the
            hospitals agreed on; `waiting`: the coordinator has not been reached yet; `nobody`: there is no other
            hospital; `told`: the coordinator hands it on.
        others: to how many other hospitals.
        at: when the coordinator had it.
    """

    how: How
    others: int = 0
    at: datetime | None = None


def told_of(ledger: Ledger, linkage: Linkage | None, standing: Standing) -> Told:
    """What others were told of the patient of a revocation.

    Args:
        linkage: as `read_linkage` gives it.
    """
    if linkage is None:
        return Told("not-linked")
    with reading(ledger.engine) as session:
        of_patient = select(LinkTokenRow.told).where(LinkTokenRow.pseudonym == standing.pseudonym)
        told = [*session.scalars(of_patient)]
        peers = session.get(LinkPeersRow, 1)
        others = 0 if peers is None else peers.others
    if when := [moment for moment in told if moment is not None]:
        return Told("told", others, min(when)) if others else Told("nobody")
    if told:
        return Told("waiting")
    if standing.source.kind == "link":
        return Told("from-another")
    if standing.state in NOT_YET:
        return Told("undecided")
    name = ledger.identifiers().get(standing.pseudonym)
    return Told("waiting" if name is not None and linkage.tokens(name) else "no-identifier")
