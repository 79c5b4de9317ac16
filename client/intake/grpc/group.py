"""Work that is done together with whatever else is waiting: while one group is being written, the next one gathers.

No thread of its own: the first caller does the work of all who wait, then passes the lead to the first of the next
group. Nobody waits for company, so that a single caller is as fast as alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from common.errors import UnavailableError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    woken: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    outcome: Result | BaseException | None = None


class Group(Generic[Item, Result]):
    """Does the work of several callers in one go; threads share it.

    Args:
        work: does it for some items; returns a result or an error for each, in their order. What it raises is the
            outcome of all of them.
        most: items at a time.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Result | BaseException]], most: int) -> None:
        self._work = work
        self._most = most
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._is_led = False
        self._lock = threading.Lock()

    def do(self, item: Item) -> Result:
        """The result of one item, as soon as the work of its group is done; raises its error."""
        waiting: _Waiting[Item, Result] = _Waiting(item)
        with self._lock:
            # Who finds nobody leading leads; everybody else waits to be woken.
            self._waiting.append(waiting)
            waiting.leads = not self._is_led
            self._is_led = True

        if not waiting.leads:
            waiting.woken.wait()
        if waiting.leads:
            self._lead()
        if isinstance(waiting.outcome, BaseException):
            raise waiting.outcome
        return waiting.outcome  # type: ignore[return-value]  # set before it was woken

    def _lead(self) -> None:
        with self._lock:
            some = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        # What the others of the group raise if this thread is ended in the middle.
        outcomes: Sequence[Result | BaseException] = [UnavailableError("interrupted: send it again")] * len(some)

        try:
            outcomes = self._work([one.item for one in some])
        except Exception as error:  # noqa: BLE001 - each caller raises it
            outcomes = [error] * len(some)
        finally:
            # The lead is passed on first: the next group need not wait until these callers have woken.
            with self._lock:
                self._is_led = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].leads = True
                    self._waiting[0].woken.set()

            for one, outcome in zip(some, outcomes, strict=True):
                one.outcome = outcome
                if not one.leads:
                    one.woken.set()
