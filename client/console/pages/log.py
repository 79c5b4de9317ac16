"""The log: the newest leaves, those about a receipt, and whether everything is still what was signed."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from client.console.desk import AUDITOR, IT, STEWARD, Desk
from client.database import LOG
from client.evidence.log_records import sources_about
from common.evidence.canonical import parse_canonical
from common.evidence.log.tree_log import Entry
from common.evidence.schema import decode
from common.platform.console.page import Page, Visit
from common.platform.console.shared_pages.log import LogPages
from common.platform.console.tables import View, view_of
from common.platform.event_log.check import own_key, problems
from common.platform.event_log.report import brief
from common.platform.event_log.store import KEY, EventLog
from common.platform.sql import reading

_ROLES = frozenset({AUDITOR, IT, STEWARD})


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf, with its content as far as it was not erased."""

    position: int
    time: str
    kind: str
    what: str


def pages(desk: Desk) -> list[Page]:
    """The leaves by pages, and the check of all of them beside the pages."""

    engine = desk.ledger.engine
    log = LogPages(
        engine,
        lambda: desk.log.log,
        lambda session: problems(desk.log.log, session, own_key(desk.log.log, session)),
        desk.ledger.clock,
    )

    def show(visit: Visit) -> Response:
        text = visit.query("text", most=64).strip()
        view = view_of(visit, ("position",), "-position", ("text",))

        with reading(engine) as session:
            size = session.scalar(select(func.count()).select_from(LOG.leaves)) or 0
            positions = _about(desk.log.log, session, text) if text else None
            view = view.of(len(positions) if positions is not None else size)
            leaves = _leaves(session, view, positions)
            values = log.values(session)

        return visit.render("log.html.j2", leaves=leaves, view=view, size=size, text=text, **values)

    return log.pages(show, _ROLES)


def _about(log: EventLog, session: Session, text: str) -> list[int]:
    """Positions of the leaves about a receipt, or about the campaign of this number, newest first."""
    sources = sources_about(log, session, text)
    if text.isascii() and text.isdecimal():
        sources += [f"{kind}:{text}" for kind in ("ended", "access-opened", "access-closed")]
    query = select(LOG.vault.c.position).where(LOG.vault.c.source.in_(sources), LOG.vault.c.position.is_not(None))
    return sorted(session.scalars(query), reverse=True)


def _leaves(session: Session, view: View, positions: list[int] | None) -> list[Leaf]:
    leaves = LOG.leaves
    vault = LOG.vault
    query = select(leaves.c.position, leaves.c.leaf, vault.c.source, vault.c.document).join(
        vault, vault.c.position == leaves.c.position, isouter=True
    )
    if positions is not None:
        query = query.where(leaves.c.position.in_(positions[view.start : view.start + view.size]))
    elif view.is_descending:
        # By position and not by offset, which would count all the rows before.
        last = view.total - view.start
        query = query.where(leaves.c.position < last, leaves.c.position >= last - view.size)
    else:
        query = query.where(leaves.c.position >= view.start, leaves.c.position < view.start + view.size)
    order = leaves.c.position.desc() if view.is_descending else leaves.c.position

    return [_leaf(row.position, row.leaf, row.source, row.document) for row in session.execute(query.order_by(order))]


def _leaf(position: int, leaf: str, source: str | None, document: str | None) -> Leaf:
    entry = decode(Entry, leaf.encode())
    if not document:
        return Leaf(position, entry.time, entry.kind, "")
    what = "a public key" if source and source.startswith(f"{KEY}:") else brief(parse_canonical(document.encode()))
    return Leaf(position, entry.time, entry.kind, what)
