"""What the pages of both logs share: the check of all leaves beside the pages, and the logs that are co-signed here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session
from starlette.responses import Response

from common.platform.console.background import Background
from common.platform.console.page import Page, Visit
from common.platform.event_log.store import EventLog
from common.platform.sql import reading


class LogPages:
    """The pages of a log.

    Args:
        examine: what does not hold of the log, by the records that it commits to.
    """

    def __init__(
        self,
        engine: Engine,
        log: Callable[[], EventLog],
        examine: Callable[[Session], list[str]],
        clock: Callable[[], datetime],
    ) -> None:
        self._log = log

        def check() -> list[str]:
            with reading(engine) as session:
                refusals = [f"{peer.origin}: {peer.trouble}" for peer in log().peers(session) if peer.trouble]
                return [*examine(session), *refusals]

        self._checking = Background(check, clock)

    def values(self, session: Session) -> dict[str, Any]:
        """What `log_base.html.j2` shows besides the side's own part."""
        peers = self._log().peers(session)
        return {
            "peers": [(peer.origin, peer.checkpoint.size, peer.seen, peer.trouble) for peer in peers],
            "last": self._checking.last,
            "is_running": self._checking.is_running,
        }

    def pages(self, show: Callable[[Visit], Response], roles: frozenset[str]) -> list[Page]:
        """The log as `show` answers it, the part that follows the check, and its start."""

        def part(visit: Visit) -> Response:
            last = self._checking.last
            return visit.render("log_part.html.j2", last=last, is_running=self._checking.is_running)

        def verify(visit: Visit) -> Response:
            self._checking.begin()
            return visit.redirect("/log")

        return [
            Page("/log", show, roles=roles),
            Page("/log/part", part, roles=roles),
            Page("/log/verify", verify, roles=roles, method="POST"),
        ]
