"""Work that takes longer than a page may: it runs in a thread, once at a time, and pages show its last result."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from common.errors import FedForgetError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finished(Generic[T]):
    """A result, or what went wrong, and when it was."""

    at: datetime
    result: T | None
    problem: str = ""


class Background(Generic[T]):
    """Runs `work` in a thread of its own."""

    def __init__(self, work: Callable[[], T], clock: Callable[[], datetime]) -> None:
        self._work = work
        self._clock = clock
        self._running = threading.Lock()
        self.last: Finished[T] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the work is being done."""
        return self._running.locked()

    def begin(self) -> None:
        """Begin, unless it is running."""
        # Acquired here and released in the thread: between the two, nobody else can begin.
        if self._running.acquire(blocking=False):
            threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self.last = Finished(self._clock(), self._work())
        except FedForgetError as err:
            self.last = Finished(self._clock(), None, str(err))
        except SQLAlchemyError as err:
            self.last = Finished(self._clock(), None, type(err).__name__)
        finally:
            self._running.release()
