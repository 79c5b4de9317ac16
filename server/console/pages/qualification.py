"""Qualification: what is registered beforehand, how far the rehearsals are, and each part of the rule."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from common.errors import InputError
from common.platform.console.page import Page, Visit
from server.campaign.qualification.description import ask, details, plan_of, state_of, store_of
from server.console.desk import EVERYBODY, OPERATORS, Desk
from server.console.drawing import Differences, differences
from server.console.words import CRITERIA, QUALIFICATION_STATES

_MOST = 50


def pages(desk: Desk) -> list[Page]:
    """As `fedforget-server qualify plan`, `start`, `show` and `stop`."""
    house = desk.house
    store = store_of(house)

    def values(number: int) -> dict[str, Any]:
        facts = details(store, number)
        standing = store.standing(number)
        result = store.result(number)
        return {
            "number": number,
            "known": facts,
            "plan": store.requested(number).plan,
            "standing": standing,
            "verdict": None if result is None else result.qualification,
            "valid_until": None if result is None else result.valid_until,
            "refused": {} if result is None else result.refused,
            "picture": _picture(result),
            "is_open": facts["state"] == "open",
            "states": QUALIFICATION_STATES,
            "criteria": CRITERIA,
        }

    def _picture(result: Any) -> Differences | None:
        if result is None or not result.qualification.branches:
            return None
        branches = result.qualification.branches
        rows = {name: (b.difference, b.low, b.high, b.original) for name, b in branches.items()}
        return differences(rows, result.registered.plan.auc_margin)

    def everything(visit: Visit) -> Response:
        numbers = store.numbers()
        plan = None if house.registry.active() is None else plan_of(desk.with_present_settings())
        return visit.render(
            "qualification.html.j2",
            newest=values(numbers[-1]) if numbers else None,
            rows=[(number, state_of(store, number), store.requested(number)) for number in numbers[::-1][:_MOST]],
            next_plan=plan,
            may_ask=visit.may(OPERATORS) and plan is not None and store.open() is None,
            may_stop=visit.may(OPERATORS),
            states=QUALIFICATION_STATES,
        )

    def one(visit: Visit, template: str = "qualification_one.html.j2") -> Response:
        return visit.render(template, **values(_number(visit)), may_stop=visit.may(OPERATORS))

    def begin(visit: Visit) -> Response:
        desk.did(visit, "qualification-asked")
        number = ask(desk.with_present_settings())
        return visit.redirect(f"/qualification/{number}", visit.text("The qualification begins."))

    def stop(visit: Visit) -> Response:
        number = _number(visit)
        reason = " ".join(visit.field("reason", 500).split())
        if not reason:
            raise InputError("Give a reason.")
        if store.open() != number:
            raise InputError("This qualification has ended.")
        desk.did(visit, "qualification-stopped", qualification=str(number), reason=reason)
        store.stop(number, reason)
        return visit.redirect(f"/qualification/{number}", visit.text("The qualification is stopped."))

    return [
        Page("/qualification", everything, roles=EVERYBODY),
        Page("/qualification", begin, roles=OPERATORS, method="POST", is_fresh=True),
        Page("/qualification/{number}", one, roles=EVERYBODY),
        Page("/qualification/{number}/part", lambda visit: one(visit, "qualification_part.html.j2"), roles=EVERYBODY),
        Page("/qualification/{number}/stop", stop, roles=OPERATORS, method="POST", is_fresh=True),
    ]


def _number(visit: Visit) -> int:
    text = visit.path_value("number")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
