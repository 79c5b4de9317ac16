"""SuperNodes look for messages three times as often: Python runs this in each process that has this folder on its path.

Flower's pause of three seconds is no setting. In a federation of a few patients it takes longer than the training.
"""

from __future__ import annotations

import sys
import time
from typing import SupportsIndex

PAUSE = 3
"""Seconds between two looks of `flwr.supernode.start_client_internal`."""

if any(word.endswith("flower-supernode") for word in sys.orig_argv):
    sleep = time.sleep

    def shorter(seconds: float | SupportsIndex, /) -> None:
        """Sleep a third as long where that is the pause."""
        sleep(PAUSE / 3 if seconds == PAUSE else seconds)

    time.sleep = shorter
