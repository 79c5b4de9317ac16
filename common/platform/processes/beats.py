"""Files that a process touches after each completed task: their age shows whether it works, not just runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life.

    Attributes:
        name: name of the task, for `/health`.
        path: the file.
        limit: seconds after which it is too old.
        clock: seconds since 1970, as in the file system.
    """

    name: str
    path: Path
    limit: float
    clock: Callable[[], float] = time.time

    def touch(self) -> None:
        """Record that the task was just done."""
        with suppress(OSError):  # a full or read-only disk shows as an old beat, which is the truth
            self.path.touch(mode=0o600)

    def age(self) -> float | None:
        """Seconds since the task was last done; None if never."""
        try:
            return max(0.0, self.clock() - self.path.stat().st_mtime)
        except OSError:
            return None

    @property
    def fresh(self) -> bool:
        """Whether the task was done recently."""
        age = self.age()
        return age is not None and age <= self.limit
