"""`fedforget-server log`: the coordinator's tamper-evident log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from common.platform.event_log.commands import OpenLog, Side, log_commands

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from common.evidence.keys import PublicKey
    from common.platform.event_log.store import EventLog


@contextmanager
def opened(folder: Path) -> Iterator[OpenLog]:
    """The log up to now, within a read-only session."""
    from common.platform.sql import reading  # noqa: PLC0415 - the database, for commands that need them
    from server.attestation.event_log import follow, server_log  # noqa: PLC0415
    from server.campaign.context import open_house  # noqa: PLC0415

    house = open_house(folder)
    try:
        key = house.signing_key()
        log = server_log(house.store.clock)
        follow(house.engine, log, key)
        with reading(house.engine) as session:
            yield log, session, key.public
    finally:
        house.engine.dispose()


def problems(log: EventLog, session: Session, key: PublicKey) -> list[str]:
    """What does not hold, in plain words."""
    from server.attestation.event_log import examine  # noqa: PLC0415 - the database, for commands that need it

    return examine(session, log, key)


app = log_commands(
    Side(
        owner="server",
        folder="federation",
        about="Show, verify and export the coordinator's tamper-evident log.",
        content="the newest leaves, how far hospitals have co-signed, and whose log was refused",
        subject="every leaf, checkpoint and event",
        advice="ask the hospitals for theirs",
        open_log=opened,
        problems=problems,
    )
)
