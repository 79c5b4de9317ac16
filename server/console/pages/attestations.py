"""Attestations: what each says, who has signed, and who still owes a signature or an answer."""

from __future__ import annotations

from sqlalchemy import select
from starlette.responses import Response

from common.platform.console.page import Page, Visit
from common.platform.console.tables import view_of
from common.platform.sql import reading
from server.attestation.attestation import find
from server.console.desk import EVERYBODY, Desk
from server.database import AttestationRow


def pages(desk: Desk) -> list[Page]:
    """One list; `attestation export` writes the files, as the console does not sign."""

    def show(visit: Visit) -> Response:
        with reading(desk.house.engine) as session:
            numbers = [*session.scalars(select(AttestationRow.campaign).order_by(AttestationRow.campaign))]
            view = view_of(visit, ("campaign",), "-campaign").of(len(numbers))
            numbers_in_order = numbers[::-1] if view.is_descending else numbers
            rows = [find(session, number) for number in numbers_in_order[view.start : view.start + view.size]]
        return visit.render("attestations.html.j2", rows=[row for row in rows if row is not None], view=view)

    return [Page("/attestations", show, roles=EVERYBODY)]
