"""Health: what the doctor finds, without the checks that need keys; it runs beside the pages."""

from __future__ import annotations

from starlette.responses import Response

from client.console.desk import EVERYBODY, Desk
from client.runtime.doctor import examine
from common.platform.checks import Check
from common.platform.console.background import Background
from common.platform.console.page import Page, Visit


def pages(desk: Desk) -> list[Page]:
    """The last result, and a button that asks again."""

    def work() -> list[Check]:
        return examine(desk.folder, desk.ledger.clock(), opens_keys=False)

    doctor = Background(work, desk.ledger.clock)

    def show(visit: Visit, template: str = "health.html.j2") -> Response:
        if doctor.last is None:
            doctor.begin()
        return visit.render(template, last=doctor.last, is_running=doctor.is_running)

    def again(visit: Visit) -> Response:
        doctor.begin()
        return visit.redirect("/health")

    return [
        Page("/health", show, roles=EVERYBODY),
        Page("/health/part", lambda visit: show(visit, "health_part.html.j2"), roles=EVERYBODY),
        Page("/health", again, roles=EVERYBODY, method="POST"),
    ]
