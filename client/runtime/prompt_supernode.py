"""`flower-supernode` that looks for its next message sooner while a campaign runs; its arguments are that command's.

Flower's loop pauses for three seconds whenever no message waits. That is right for an idle hospital, but after every
answer it delays the next step, for which all other hospitals wait. Here the pause grows with the time since the last
answer, up to Flower's three seconds. So a step is delayed by a small share of its own length, and an idle hospital asks
as rarely as before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

from common.errors import FedForgetError

SHARE = 0.2
"""Of the time since the last answer: the pause before the next look for a message."""
SHORTEST = 0.25
"""Seconds between two looks for a message, at least: each is a signed request to the coordinator."""
ANSWER_PAUSE = 0.1
"""Seconds between two looks for the answer of the ClientApp, which are calls within the process."""
FOR_A_MESSAGE = 3
FOR_AN_ANSWER = 0.5
"""Seconds that Flower's loop pauses for each."""


class Pauses:
    """Takes the place of `time` in Flower's loop, which calls `sleep` only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, wait: Callable[[float], None] = time.sleep) -> None:
        self._clock = clock
        self._wait = wait
        self._last_answer = clock() - FOR_A_MESSAGE / SHARE  # nobody expects a message right after the start

    def sleep(self, seconds: float) -> None:
        """Pause for at most `seconds`, which say what is waited for."""
        if seconds < FOR_A_MESSAGE:
            self._wait(min(seconds, ANSWER_PAUSE))
            self._last_answer = self._clock()
            return

        since_answer = self._clock() - self._last_answer
        self._wait(min(seconds, max(SHORTEST, SHARE * since_answer)))


def hasten(loop: ModuleType, pauses: Pauses) -> None:
    """Let Flower's `loop` pause by `pauses`.

    Raises:
        FedForgetError: it does not pause as the one that this was measured with.
    """
    if vars(loop).get("time") is not time:
        raise FedForgetError("this Flower pauses in another way: FedForget needs flwr 1.41")
    vars(loop)["time"] = SimpleNamespace(sleep=pauses.sleep)


def main() -> None:
    """Run `flower-supernode` with the arguments of this process."""
    from flwr.supernode import start_client_internal  # noqa: PLC0415 - not for those who read the constants
    from flwr.supernode.cli import flower_supernode  # noqa: PLC0415 - as above

    hasten(start_client_internal, Pauses())
    flower_supernode()


if __name__ == "__main__":
    main()
