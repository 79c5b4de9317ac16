"""Models: all versions with their lineage drawn, and one with its card, its figures and who holds a copy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from starlette.responses import Response

from common.errors import InputError
from common.platform.console.page import Page, Visit
from common.platform.sql import reading
from server.console.desk import EVERYBODY, OPERATORS, Desk
from server.console.pages.campaigns import intervals
from server.console.words import VERSION_STATES
from server.database import EventRow
from server.registry.versions import Version

_MOST = 100
_STEP = 26


@dataclass(frozen=True, slots=True)
class Node:
    """A version in the drawing: its row, its lane, and the row of its parent if that is drawn."""

    name: str
    state: str
    row: int
    lane: int
    parent_row: int | None
    parent_lane: int

    @property
    def y(self) -> int:
        """Distance from the top in pixels."""
        return _STEP * self.row + _STEP // 2


def lineage(versions: list[Version]) -> list[Node]:
    """Places of versions, the newest on top; a version whose parent has another child gets a lane of its own."""
    rows = {version.name: number for number, version in enumerate(reversed(versions))}
    lanes: dict[str, int] = {}
    straight_on: set[str] = set()
    for version in versions:
        parent = version.parent if version.parent in rows else None
        if parent is None or parent in straight_on:
            lanes[version.name] = max(lanes.values(), default=-1) + 1
        else:
            # The first child stays in its parent's lane, so that a line without branches is straight.
            lanes[version.name] = lanes[parent]
        straight_on |= {parent} if parent else set()

    return [
        Node(
            version.name,
            version.state,
            rows[version.name],
            lanes[version.name],
            rows.get(version.parent) if version.parent else None,
            lanes.get(version.parent, 0) if version.parent else 0,
        )
        for version in versions
    ]


def pages(desk: Desk) -> list[Page]:
    """The list and one version. Weights are no business of the console, which cannot read them."""
    house = desk.house

    def everything(visit: Visit) -> Response:
        versions = house.registry.versions()
        newest = versions[-_MOST:]
        days = timedelta(days=house.settings.policy.quarantine_days)
        ends = {v.name: v.state_since + days for v in newest if v.state == "quarantined" and v.weights_deleted is None}
        nodes = lineage(newest)
        return visit.render(
            "models.html.j2",
            versions=newest[::-1],
            earlier=len(versions) - len(newest),
            nodes=nodes,
            height=_STEP * len(nodes),
            width=20 + 24 * max((node.lane for node in nodes), default=0) + 130,
            ends=ends,
            states=VERSION_STATES,
        )

    def one(visit: Visit) -> Response:
        name = visit.path_value("name")
        version = house.registry.get(name)
        metrics = [metric.model_dump() for metric in version.manifest.provenance.metrics]
        with reading(house.engine) as session:
            query = select(EventRow).where(EventRow.detail.startswith(name)).order_by(EventRow.id)
            events = [*session.scalars(query.limit(100))]
            session.expunge_all()
        return visit.render(
            "model.html.j2",
            version=version,
            provenance=version.manifest.provenance.model_dump(exclude={"metrics", "grounds"}),
            metrics=metrics,
            intervals=intervals(metrics),
            holders=house.registry.deliveries.recipients(name),
            exports=house.registry.exports.of(name),
            events=events,
            states=VERSION_STATES,
            may_decide=visit.may(OPERATORS),
        )

    def withdraw(visit: Visit) -> Response:
        name = visit.path_value("name")
        reason = visit.field("reason", 500)
        if not reason:
            raise InputError("Give a reason.")
        house.registry.get(name)
        # On record before it is done: what cannot be recorded does not happen.
        desk.did(visit, "version-withdrawn", version=name, reason=reason)
        house.registry.withdraw(name, reason)
        return visit.redirect(
            f"/models/{name}", visit.text("Withdrawn. Hospitals delete their copies the next time they connect.")
        )

    return [
        Page("/models", everything, roles=EVERYBODY),
        Page("/models/{name}", one, roles=EVERYBODY),
        Page("/models/{name}/withdraw", withdraw, roles=OPERATORS, method="POST", is_fresh=True),
    ]
