"""One supervised process: its command and readiness, the pause before a restart, and its output by lines."""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

State = Literal["waiting", "starting", "up", "backoff", "stopped"]
# Bytes; a longer line is logged in pieces.
_LONGEST_LINE = 16_384


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep alive."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    ready: Callable[[], bool] | None = None
    """Whether it serves; quick, never raises, any thread. None: living for `settle` seconds is enough."""
    ready_line: re.Pattern[str] | None = None
    """It is ready once it has printed a matching line, if that says more than `ready`."""
    settle: float = 1.0
    stop_grace: float = 3.0
    """Seconds from SIGTERM to SIGKILL."""
    ready_within: float = 60.0
    """Seconds after which the next child is started even though this one is not ready."""
    reads: Callable[[], bytes | None] | None = None
    """What it has read at its start and does not read again, e.g. a certificate; it is restarted when this changes.
    None: nothing can be said now. Quick, never raises."""
    explain: Callable[[], str | None] | None = None
    """The likely reason for its end, for the log; may take seconds, runs in its own thread, never raises."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pause before a restart, in seconds: doubles from `first` to `most`, and resets after `steady` seconds up."""

    first: float = 1.0
    most: float = 60.0
    steady: float = 60.0

    def delay(self, failures: int, rng: random.Random) -> float:
        """Pause after the `failures`-th end in a row, drawn from [.75, 1.25] of the doubling and kept in its range."""
        base = self.first * 2.0 ** min(failures - 1, 30)
        # Drawn, so that processes that ended together do not start together.
        return max(self.first, min(self.most, base * rng.uniform(0.75, 1.25)))


@dataclass(slots=True)
class Running:
    """A started child: its guard and our ends of its pipes."""

    guard: subprocess.Popen[bytes]
    pidfd: int
    output: int
    lifeline: int
    start_time: float
    kill_at: float = float("inf")
    said_ready: bool = False
    has_read: bytes | None = None
    is_replaced: bool = False
    """It was told to end, to be started again at once with what its file holds now."""
    partial: bytes = b""


@dataclass(frozen=True, slots=True)
class Status:
    """Current state of a child."""

    name: str
    state: State
    restarts: int
    pid: int | None


@dataclass(slots=True)
class Slot:
    """A child's place in the supervisor's list: it outlives the processes that are started for it."""

    child: Child
    state: State = "waiting"
    running: Running | None = None
    failures: int = 0
    restarts: int = 0
    explaining: bool = False
    explanation: str = ""
    """Why it ended, as far as is known."""
    last_logged: str = ""
    """The last explanation that was logged."""
    due: float = 0.0
    """Time of the next start (`backoff`) or the next readiness check (`starting`)."""

    @property
    def is_replaced(self) -> bool:
        """Whether it was told to end, and is to be started again."""
        return self.running is not None and self.running.is_replaced


def read_lines(running: Running, blocks: int) -> Iterator[str]:
    """Whole lines that can be read now, in at most `blocks` reads; an unfinished line stays in `partial`."""
    for _ in range(blocks):
        try:
            block = os.read(running.output, 65_536)
        except BlockingIOError:
            return

        if not block:
            return
        *whole, running.partial = (running.partial + block).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace")
        while len(running.partial) > _LONGEST_LINE:
            head = running.partial[:_LONGEST_LINE]
            running.partial = running.partial[_LONGEST_LINE:]
            yield head.decode("utf-8", "replace")
