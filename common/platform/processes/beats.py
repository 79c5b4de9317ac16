"""Files that a process touches whenever it has done what it is for: how old they are tells life from a mere process."""

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
        name: what is done each time, for `/health`.
        path: the file.
        limit: seconds after which it is too old.
        clock: seconds since 1970, as the file system counts them.
    """

    name: str
    path: Path
    limit: float
    clock: Callable[[], float] = time.time

    def touch(self) -> None:
        """It was done now."""
        with suppress(OSError):  # a full or read-only disk shows as an old beat, which is the truth
            self.path.touch(mode=0o600)

    def age(self) -> float | None:
        """Seconds since it was last done; None where it never was."""
        try:
            return max(0.0, self.clock() - self.path.stat().st_mtime)
        except OSError:
            return None

    @property
    def fresh(self) -> bool:
        """Was it done lately?"""
        age = self.age()
        return age is not None and age <= self.limit
