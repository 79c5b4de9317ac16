"""What an operator may decide about campaigns: plan one now, or cancel the open one. Both ask for a fresh sign-in."""

from __future__ import annotations

from starlette.responses import Response

from common.errors import InputError
from common.platform.console.page import Page, Visit
from server.campaign.asked import asked_of, plan_unlearning
from server.console.desk import OPERATORS, Desk
from server.rounds.states import CampaignState


def pages(desk: Desk) -> list[Page]:
    """As `fedforget-server campaign start` and `cancel`."""
    house = desk.house

    def plan(visit: Visit) -> Response:
        active = house.registry.active()
        if active is None:
            raise InputError("There is no model yet.")
        present = desk.with_present_settings()
        waiting = asked_of(present)
        if not waiting:
            raise InputError("No revocation waits at a hospital.")
        # On record before it is done: what cannot be recorded does not happen.
        desk.did(visit, "campaign-planned", hospitals=" ".join(site.name for site in waiting))
        number = plan_unlearning(present, active.name, waiting, "asked for at the console")
        return visit.redirect(f"/campaigns/{number}", visit.text("The campaign is planned."))

    def cancel(visit: Visit) -> Response:
        text = visit.path_value("number")
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
        reason = visit.field("reason", 500)
        if not reason:
            raise InputError("Give a reason.")
        house.store.get(number)
        # On record before it is done, as above.
        desk.did(visit, "campaign-cancelled", campaign=str(number), reason=reason)
        house.store.end(number, CampaignState.CANCELLED, reason)
        house.store.clean(number)
        return visit.redirect(
            f"/campaigns/{number}", visit.text("The campaign is cancelled. Its patients wait for the next one.")
        )

    return [
        Page("/campaigns", plan, roles=OPERATORS, method="POST", is_fresh=True),
        Page("/campaigns/{number}/cancel", cancel, roles=OPERATORS, method="POST", is_fresh=True),
    ]
