"""How far the exchange with the hospitals is: who was asked, who has answered, how long such rounds take.

The ServerApp writes a small file at each reply, which `campaign watch` and `--wait` read. Nothing goes on from it, so
that a file which cannot be written or read costs a line on a terminal and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ValidationError

from common.errors import OutputError
from common.files import write_text

PROGRESS_FILE = "progress.json"
CONNECT = "connect"
"""Kind of the wait for hospitals before the first exchange."""


class Progress(BaseModel):
    """One exchange, or the wait for hospitals to connect."""

    campaign: int
    attempt: int
    kind: str
    """Type of message, or `connect`."""
    step: str = ""
    round: int = 0
    asked: tuple[str, ...] = ()
    answered: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """Sites whose answer was an error or did not fit."""
    since: datetime
    until: datetime | None = None
    """After this nobody is waited for."""
    round_seconds: float | None = None
    """How long the round before this one took, with all that the coordinator did in it."""

    @property
    def waiting(self) -> tuple[str, ...]:
        """Sites that have not answered."""
        return tuple(name for name in self.asked if name not in {*self.answered, *self.left_out})


class Watcher(Protocol):
    """What `server.rounds.federation` tells about its exchanges."""

    def asked(self, kind: str, step: str, number: int, sites: Iterable[str], seconds: float) -> None:
        """A message went to `sites`, who have so many seconds to answer."""

    def heard(self, site: str, *, fits: bool) -> None:
        """A site has answered."""


class Unwatched:
    """Nobody looks."""

    def asked(self, kind: str, step: str, number: int, sites: Iterable[str], seconds: float) -> None:
        """See `Watcher`."""

    def heard(self, site: str, *, fits: bool) -> None:
        """See `Watcher`."""


@dataclass
class ProgressFile:
    """Writes the progress of one attempt to `work/progress.json`."""

    work: Path
    campaign: int
    attempt: int
    clock: Callable[[], datetime]
    _now: Progress | None = field(default=None, init=False)

    def connecting(self, expected: Collection[str], online: Collection[str]) -> None:
        """So many hospitals of those expected are online."""
        # The wait began with its first look; later looks keep that time.
        since = self._now.since if self._now is not None and self._now.kind == CONNECT else self.clock()
        self._write(
            self._new(CONNECT, since).model_copy(
                update={"asked": tuple(sorted(expected)), "answered": tuple(sorted(online))}
            )
        )

    def asked(self, kind: str, step: str, number: int, sites: Iterable[str], seconds: float) -> None:
        """See `Watcher`."""
        now = self.clock()
        before = self._now
        pace = before.round_seconds if before is not None and before.kind == kind else None
        if before is not None and before.kind == kind and number == before.round + 1:
            pace = (now - before.since).total_seconds()
        changes = {
            "step": step,
            "round": number,
            "asked": tuple(sorted(sites)),
            "until": datetime.fromtimestamp(now.timestamp() + seconds, now.tzinfo),
            "round_seconds": pace,
        }
        self._write(self._new(kind, now).model_copy(update=changes))

    def heard(self, site: str, *, fits: bool) -> None:
        """See `Watcher`."""
        if self._now is None:
            return
        name = "answered" if fits else "left_out"
        self._write(self._now.model_copy(update={name: (*getattr(self._now, name), site)}))

    def _new(self, kind: str, since: datetime) -> Progress:
        return Progress(campaign=self.campaign, attempt=self.attempt, kind=kind, since=since)

    def _write(self, progress: Progress) -> None:
        if progress == self._now:
            return
        self._now = progress
        with suppress(OutputError):  # a full disk is for those to report who cannot do without
            write_text(self.work / PROGRESS_FILE, progress.model_dump_json())


def read_progress(work: Path, campaign: int, attempt: int) -> Progress | None:
    """The progress of a campaign's attempt, None where nothing is known of it."""
    try:
        progress = Progress.model_validate_json((work / PROGRESS_FILE).read_bytes())
    except (OSError, ValidationError):
        return None

    return progress if (progress.campaign, progress.attempt) == (campaign, attempt) else None
