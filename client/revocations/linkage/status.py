"""What other hospitals were told about a patient's revocation by linkage, as far as this site knows.

They are told through the coordinator. None reports whether it knows the patient: that would reveal who is treated
where.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select

from client.revocations.ledger import Ledger
from client.revocations.linkage.tokens import NOT_YET, Linkage
from client.revocations.revocation import RevocationStatus
from client.revocations.rows.ledger_rows import chunks
from client.revocations.rows.ledger_tables import LinkPeersRow, LinkTokenRow
from common.platform.sql import reading

How = Literal["not-linked", "from-another", "undecided", "no-identifier", "waiting", "nobody", "told"]


@dataclass(frozen=True, slots=True)
class LinkageStatus:
    """Whether other hospitals were told.

    Attributes:
        how: `not-linked`: no linkage is configured; `from-another`: it came from another hospital and is not handed
            on; `undecided`: it is not, before it is decided here; `no-identifier`: the patient has none that the
            hospitals agreed on; `waiting`: the coordinator has not been reached yet; `nobody`: there is no other
            hospital; `told`: the coordinator hands it on.
        others: number of other hospitals.
        at: when the coordinator received it.
    """

    how: How
    others: int = 0
    at: datetime | None = None


def linkage_statuses(
    ledger: Ledger, linkage: Linkage | None, statuses: Sequence[RevocationStatus]
) -> list[LinkageStatus]:
    """What other hospitals were told about the patient of each revocation.

    Args:
        linkage: as `read_linkage` gives it.
    """
    if linkage is None:
        return [LinkageStatus("not-linked")] * len(statuses)
    moments: dict[str, list[datetime | None]] = {standing.pseudonym: [] for standing in statuses}
    with reading(ledger.engine) as session:
        for some in chunks(moments):
            tokens = select(LinkTokenRow).where(LinkTokenRow.pseudonym.in_(some))
            for row in session.scalars(tokens):
                moments[row.pseudonym].append(row.told)

        peers = session.get(LinkPeersRow, 1)
        others = 0 if peers is None else peers.others

    names = ledger.identifiers()

    return [_told(s, moments[s.pseudonym], others, linkage, names.get(s.pseudonym)) for s in statuses]


def _told(
    standing: RevocationStatus, moments: Collection[datetime | None], others: int, linkage: Linkage, name: str | None
) -> LinkageStatus:
    if when := [moment for moment in moments if moment is not None]:
        return LinkageStatus("told", others, min(when)) if others else LinkageStatus("nobody")
    if moments:
        return LinkageStatus("waiting")
    if standing.source.kind == "link":
        return LinkageStatus("from-another")
    if standing.state in NOT_YET:
        return LinkageStatus("undecided")
    return LinkageStatus("waiting" if name is not None and linkage.tokens(name) else "no-identifier")
