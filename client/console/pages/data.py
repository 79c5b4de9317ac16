"""Data: how many patients are in which set, how many must not be used, which model versions are here."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import select
from starlette.responses import Response

from client.console.desk import EVERYBODY, Desk
from client.console.words import SETS
from client.database import HoldingRow
from common.learning.records import Subset
from common.platform.console.page import Page, Visit
from common.platform.sql import reading

_MOST_VERSIONS = 50


def pages(desk: Desk) -> list[Page]:
    """The page; the cohort is imported by `fedforget-site data import`."""

    def show(visit: Visit) -> Response:
        subsets = desk.ledger.subsets_of(desk.ledger.known_patients())
        counts = Counter(subsets.values())
        with reading(desk.ledger.engine) as session:
            newest = select(HoldingRow).order_by(HoldingRow.received.desc()).limit(_MOST_VERSIONS)
            versions = [*session.scalars(newest)]
            session.expunge_all()
        return visit.render(
            "data.html.j2",
            sets=[(SETS[subset], counts.get(subset, 0)) for subset in Subset],
            total=len(subsets),
            stopped=len(desk.ledger.stopped()),
            versions=versions,
        )

    return [Page("/data", show, roles=EVERYBODY)]
