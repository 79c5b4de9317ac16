"""Limit the calls of each caller of a service."""

from __future__ import annotations

import threading
from datetime import datetime

_MOST_KEYS = 20_000


class RateLimit:
    """A token bucket per key: `burst` calls, refilled by `per_second`."""

    def __init__(self, burst: float = 30.0, per_second: float = 1.0) -> None:
        self._burst = burst
        self._per_second = per_second
        self._buckets: dict[str, tuple[float, datetime]] = {}
        self._lock = threading.Lock()

    def allows(self, key: str, now: datetime) -> bool:
        """Take one call from the bucket of `key`, if one is left."""
        with self._lock:
            calls = self._now_left(key, now)
            has_call = calls >= 1.0
            self._buckets[key] = (calls - 1.0 if has_call else calls, now)
            if len(self._buckets) > _MOST_KEYS:
                self._forget_full(now)
            return has_call

    def has_left(self, key: str, now: datetime) -> bool:
        """Whether a call would be allowed; takes none."""
        with self._lock:
            return self._now_left(key, now) >= 1.0

    def _now_left(self, key: str, now: datetime) -> float:
        calls, at = self._buckets.get(key, (self._burst, now))
        # A clock that was set back must not drain the bucket.
        return min(self._burst, calls + max(0.0, (now - at).total_seconds()) * self._per_second)

    def _forget_full(self, now: datetime) -> None:
        """Forget keys whose bucket is full again, then the oldest: a stranger may send any number of keys."""
        self._buckets = {key: one for key, one in self._buckets.items() if self._now_left(key, now) < self._burst}
        for key in [*self._buckets][: max(0, len(self._buckets) - _MOST_KEYS // 2)]:
            del self._buckets[key]
