"""Campaigns: the list, and one as a timeline with what it waits for, its audit as a picture, and its decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from common.platform.console.page import Page, Visit
from common.platform.console.tables import view_of
from server.campaign.description import details, doing, summary
from server.console.desk import EVERYBODY, OPERATORS, Desk
from server.console.words import CAMPAIGN_KINDS, CAMPAIGN_STATES, OUTCOMES
from server.rounds.exchanges.progress import read_progress
from server.rounds.states import CampaignState

_MEMBERSHIP = "membership AUC"


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its interval, as places on a line from 0 to 100."""

    name: str
    value: float
    low: float
    high: float
    patients: int | None


def intervals(metrics: list[dict[str, Any]]) -> list[Interval]:
    """The membership figures of an audit that have an interval."""
    return [
        Interval(m["name"], *_places(m), m["patients"])
        for m in metrics
        if m["name"].startswith(_MEMBERSHIP) and m["value"] is not None and m["low"] is not None
    ]


def _places(metric: dict[str, Any]) -> tuple[float, float, float]:
    value, low, high = (round(100 * float(metric[key]), 1) for key in ("value", "low", "high"))
    return value, low, high


def pages(desk: Desk) -> list[Page]:
    """The list by pages, and one campaign, which follows events while it is open."""
    house = desk.house

    def everything(visit: Visit) -> Response:
        rows = [*house.store.all()]
        view = view_of(visit, ("number",), "-number").of(len(rows))
        rows = rows[::-1] if view.is_descending else rows
        verdicts = house.store.verdicts()
        summaries = [summary(row, verdicts.get(row.number)) for row in rows[view.start : view.start + view.size]]
        return visit.render(
            "campaigns.html.j2",
            rows=summaries,
            view=view,
            kinds=CAMPAIGN_KINDS,
            states=CAMPAIGN_STATES,
            outcomes=OUTCOMES,
            has_open=house.store.open() is not None,
            may_decide=visit.may(OPERATORS),
        )

    def one(visit: Visit, template: str = "campaign.html.j2") -> Response:
        number = _number(visit)
        row = house.store.get(number)
        facts = details(house, number)
        is_open = not CampaignState(row.state).ended
        now = doing(row, read_progress(house.store.work, number, row.attempt), visit.now) if is_open else ""
        metrics: list[dict[str, Any]] = []
        if row.result:
            manifest = house.registry.get(row.result).manifest
            metrics = [metric.model_dump() for metric in manifest.provenance.metrics]
        return visit.render(
            template,
            campaign=facts,
            row=row,
            is_open=is_open,
            now=now,
            metrics=metrics,
            intervals=intervals(metrics),
            kinds=CAMPAIGN_KINDS,
            states=CAMPAIGN_STATES,
            outcomes=OUTCOMES,
            may_decide=visit.may(OPERATORS),
        )

    return [
        Page("/campaigns", everything, roles=EVERYBODY),
        Page("/campaigns/{number}", one, roles=EVERYBODY),
        Page("/campaigns/{number}/part", lambda visit: one(visit, "campaign_part.html.j2"), roles=EVERYBODY),
    ]


def _number(visit: Visit) -> int:
    """The campaign of the address; 0, which no campaign has, for something that is no number."""
    text = visit.path_value("number")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
