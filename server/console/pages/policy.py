"""Policy: every setting in force, to read. A change is made in `server.toml`, where it has a history."""

from __future__ import annotations

from starlette.responses import Response

from common.platform.console.page import Page, Visit
from common.platform.settings_file import flattened
from server.console.desk import EVERYBODY, Desk

_HIDDEN = "(hidden)"


def pages(desk: Desk) -> list[Page]:
    """The settings by group, the policy first."""

    def show(visit: Visit) -> Response:
        values = flattened(desk.house.folder.settings().model_dump())
        values["database"] = _HIDDEN if "@" in str(values.get("database", "")) else values.get("database", "")
        rows = sorted(values.items(), key=lambda row: (not row[0].startswith(("policy.", "gate.")), row[0]))
        return visit.render("policy.html.j2", rows=[(name, str(value)) for name, value in rows])

    return [Page("/policy", show, roles=EVERYBODY)]
