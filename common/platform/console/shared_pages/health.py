"""Health: what the doctor finds, without the checks that need keys; it runs beside the pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from starlette.responses import Response

from common.platform.checks import Check
from common.platform.console.background import Background
from common.platform.console.page import Page, Visit


def health_pages(
    examine: Callable[[], list[Check]], clock: Callable[[], datetime], roles: frozenset[str], program: str
) -> list[Page]:
    """The last result, and a button that asks again.

    Args:
        examine: runs the checks.
        program: whose `doctor` has them all.
    """
    doctor = Background(examine, clock)

    def show(visit: Visit, template: str = "health.html.j2") -> Response:
        if doctor.last is None:
            doctor.begin()
        return visit.render(template, last=doctor.last, is_running=doctor.is_running, program=program)

    def again(visit: Visit) -> Response:
        doctor.begin()
        return visit.redirect("/health")

    return [
        Page("/health", show, roles=roles),
        Page("/health/part", lambda visit: show(visit, "health_part.html.j2"), roles=roles),
        Page("/health", again, roles=roles, method="POST"),
    ]
