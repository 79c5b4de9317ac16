"""Live pages: an event stream that tells a browser that something has changed, never what."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

_POLL_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 15.0
_LONGEST_SECONDS = 600.0
_MOST_STREAMS = 200
_PER_SESSION = 6


@dataclass(slots=True)
class Live:
    """Event streams over one question, which is asked once a second for all of them.

    Args:
        newest: a value that differs after a change; quick, may be called from any thread.
    """

    newest: Callable[[], object]
    _streams: Counter[str] = field(init=False, default_factory=Counter)
    _last_answer: tuple[float, object] = field(init=False, default=(float("-inf"), None))

    def stream(self, session: str, is_open: Callable[[], bool]) -> StreamingResponse | None:
        """A stream for a session while it `is_open`; None if there are too many."""
        if self._streams.total() >= _MOST_STREAMS or self._streams[session] >= _PER_SESSION:
            return None
        self._streams[session] += 1

        return StreamingResponse(self._events(session, is_open), media_type="text/event-stream")

    async def _events(self, session: str, is_open: Callable[[], bool]) -> AsyncIterator[str]:
        end = time.monotonic() + _LONGEST_SECONDS
        last = await self._now()
        last_sign = time.monotonic()

        try:
            yield "retry: 3000\n\n"
            while time.monotonic() < end and is_open():
                await asyncio.sleep(_POLL_SECONDS)
                now = await self._now()
                if now != last:
                    last = now
                    last_sign = time.monotonic()
                    yield "event: changed\ndata: \n\n"
                elif time.monotonic() - last_sign > _KEEP_ALIVE_SECONDS:
                    last_sign = time.monotonic()
                    yield ": here\n\n"
        # Also when the browser goes away: the generator is closed then.
        finally:
            self._streams[session] -= 1
            if self._streams[session] <= 0:
                del self._streams[session]

    async def _now(self) -> object:
        at, value = self._last_answer
        # One question serves all streams: a hundred browsers ask the database as often as one does.
        if time.monotonic() - at < _POLL_SECONDS / 2:
            return value
        value = await run_in_threadpool(self.newest)
        self._last_answer = (time.monotonic(), value)

        return value
