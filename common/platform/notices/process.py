"""The loop of the process that sends notices. It only reads the house's records, so nothing waits for it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError

from common.errors import FedForgetError
from common.platform.notices.notifier import Notifier

_EVERY_SECONDS = 30.0

_log = logging.getLogger("fedforget.notices")


def watch(notifier: Notifier, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
    """Send what is due until SIGTERM. What fails is logged once, and tried again."""
    stop_event = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop_event.set())

    last_line = ""
    while not stop_event.is_set():
        try:
            notifier.step(clock())
            last_line = ""
        except (FedForgetError, SQLAlchemyError) as err:
            reason = str(err) if isinstance(err, FedForgetError) else f"the database failed ({type(err).__name__})"
            # Once for each reason, or a database that is down would fill the log.
            if reason != last_line:
                _log.error("no notice goes out: %s", reason)
            last_line = reason

        stop_event.wait(_EVERY_SECONDS)
