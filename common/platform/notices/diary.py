"""What went out on which day, in a file of the house, so that no restart sends it twice."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from common.disk import unwritable
from common.files import write_durable

Outcome = Literal["sending", "sent", "nothing", "failed", "unknown"]

DIARY_FILE = "notices.json"
_FIRST = timedelta(minutes=5)
_LONGEST = timedelta(hours=1)


class Entry(BaseModel):
    """The last try of one kind of notice on one channel.

    Attributes:
        day: whose notice it was, by this machine's calendar.
        outcome: `sending` until the channel has answered; whoever finds that later does not know what became of it, and
            sends it no more, as with `unknown`.
        tries: on that day.
        problem: of the last try, without secrets.
        succeeded: when one last went out, or there was nothing to say.
    """

    model_config = ConfigDict(frozen=True)
    day: date
    outcome: Outcome
    at: AwareDatetime
    tries: int = 0
    problem: str = ""
    succeeded: AwareDatetime | None = None

    def is_due(self, day: date, now: datetime) -> bool:
        """Whether the day's notice must still be tried."""
        if self.day != day:
            return True
        # Doubles from five minutes to an hour: a server that is down for a day is asked fewer than thirty times.
        wait = min(_FIRST * 2 ** min(self.tries - 1, 10), _LONGEST)
        return self.outcome == "failed" and now - self.at >= wait


class Diary(BaseModel):
    """Entries by `KIND/CHANNEL`."""

    entries: dict[str, Entry] = {}


def read_diary(root: Path) -> Diary:
    """The diary; empty if it is missing or damaged."""
    try:
        return Diary.model_validate_json((root / DIARY_FILE).read_bytes())
    except (OSError, ValidationError):
        return Diary()


def write_diary(root: Path, diary: Diary) -> None:
    """Write it; raises an `OutputError` if the disk cannot be written."""
    write_durable(root / DIARY_FILE, diary.model_dump_json(indent=1).encode())


@contextmanager
def writing_alone(root: Path) -> Iterator[None]:
    """Lock the diary against other processes that send.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = root / f".{DIARY_FILE}.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as err:
        raise unwritable(err, path) from None

    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
