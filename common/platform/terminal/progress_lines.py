"""Progress for a pipe or a log file, where a bar would be noise: one line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field


def _to_standard_error(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@dataclass
class ProgressLines:
    """Print how much is done, and how many seconds remain at this pace.

    Args:
        what: the items counted.
        every: seconds between two lines; shorter tasks print nothing.
        clock: a monotonic clock in seconds.
        write: receives a line.
    """

    what: str
    every: float = 2.0
    clock: Callable[[], float] = time.monotonic
    write: Callable[[str], None] = _to_standard_error
    _began: float = field(init=False)
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._last = self.clock()

    def __call__(self, count: int, total: int) -> None:
        """Report that `count` of `total` items are done."""
        now = self.clock()
        if now - self._last < self.every:
            return
        self._last = now
        rest = f", {(now - self._began) / count * (total - count):.0f} s left" if count else ""
        self.write(f"{self.what} {count} of {total}{rest}")
