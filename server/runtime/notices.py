"""The coordinator's notices, and the process that sends them: `python -m server.runtime.notices --dir DIR`.

They count what needs somebody, and name hospitals and campaigns.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from common.errors import FedForgetError
from common.platform.notices.channels import Channels
from common.platform.notices.notice import Line, Notice
from common.platform.notices.notifier import Daily, Notifier
from common.platform.notices.process import watch
from common.platform.notices.words import (
    DECIDE,
    GONE,
    HOSPITALS_OVERDUE,
    HOSPITALS_SOON,
    RECALL,
    SIGNATURES,
    SUSPENDED,
    WAITING,
)
from common.platform.processes.structured_log import configure
from common.platform.proxy import proxy_of_environment
from common.platform.sql import reading
from server.campaign.context import CoordinatorContext, open_house
from server.campaign.waiting import needs
from server.database import AttestationRow, CampaignRow, SiteRow
from server.registry.exports import to_recall
from server.settings import ServerFolder, ServerSettings

_SILENT = timedelta(hours=1)


def server_channels(folder: ServerFolder, settings: ServerSettings) -> Channels:
    """Where the coordinator's notices go, by the proxy that `HTTPS_PROXY` names.

    Raises:
        ConfigError: that is no proxy.
    """
    return Channels(settings.notify, folder.root, str(folder.settings_file), proxy_of_environment(os.environ))


@contextmanager
def open_notices(path: Path) -> Iterator[Notifier]:
    """The notices of the coordinator; raises as `open_house`, and a `ConfigError` for a bad proxy."""
    house = open_house(path)
    try:
        channels = server_channels(house.folder, house.settings)
        yield Notifier(channels, house.folder.root, lambda kind, now: server_notice(house, kind, now))
    finally:
        house.engine.dispose()


def server_notice(house: CoordinatorContext, kind: Daily, now: datetime) -> Notice:
    """The digest, or what is told to the deputy before a hospital's due date passes."""
    settings = house.settings
    config = settings.notify
    days = config.escalate_days if kind == "escalation" else config.soon_days
    last = now + timedelta(days=days)

    with reading(house.engine) as session:
        rows = [*session.scalars(select(SiteRow).where(SiteRow.state != "revoked").order_by(SiteRow.name))]
        due = {row.name: row.first_due for row in rows if row.pending and row.first_due is not None}
        lines = [
            _line(HOSPITALS_OVERDUE, (name for name, day in due.items() if day < now)),
            _line(HOSPITALS_SOON, (name for name, day in due.items() if now <= day < last), days),
        ]
        if kind == "digest":
            owed = select(AttestationRow.campaign).where(AttestationRow.envelope == "")
            running = select(CampaignRow).where(CampaignRow.open.is_(True))
            # A campaign with a run is at work; without one, or put off, it waits for something.
            waiting = [row.number for row in session.scalars(running) if row.retry_at is not None or row.run is None]
            needs_by_site = needs(session, settings.policy)
            lines += [
                _line(WAITING, map(str, waiting)),
                _line(DECIDE, (name for name, why in needs_by_site.items() if why)),
                _line(SIGNATURES, map(str, session.scalars(owed.order_by(AttestationRow.campaign)))),
                _line(GONE, (row.name for row in rows if row.seen is None or now - row.seen > _SILENT)),
                _line(SUSPENDED, (row.name for row in rows if row.state == "suspended")),
                _line(RECALL, to_recall(session)),
            ]

    first = min(due.values(), default=None)
    return Notice(kind, settings.hosts[0], now, tuple(lines), first, settings.console.public_url)


def _line(text: str, items: Iterable[str], days: int = 0) -> Line:
    names = tuple(items)
    return Line(text, len(names), names, days)


def run(folder: ServerFolder) -> None:
    """Send until SIGTERM; raises as `open_notices`."""
    with open_notices(folder.root) as notifier:
        watch(notifier)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m server.runtime.notices", description="Send notices.")
    parser.add_argument("--dir", type=Path, required=True, help="folder of the coordinator")
    place = ServerFolder(parser.parse_args().dir.resolve())
    configure()

    try:
        run(place)
    except FedForgetError as err:
        logging.getLogger("fedforget.notices").error("%s", err)
        sys.exit(err.exit_code)
