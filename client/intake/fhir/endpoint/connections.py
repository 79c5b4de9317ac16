"""How long, and how much, a connection to the endpoint may take before anybody has signed in.

Whoever does not finish a handshake, a request's head or its body in time is hung up on, and no address holds more
than its share of the connections: otherwise a few idle ones would shut out the hospital's own systems.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HANDSHAKE_SECONDS = HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0
"""Beyond what the endpoint itself waits for a body, so that its answer comes first."""
REQUEST_BYTES = 2**21
"""Of one request with its head; the endpoint refuses a body of half of it with an answer."""
HEAD_BYTES = 2**14
MOST_AGE = 3600.0


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose servers do not wait for ever for a handshake."""

    async def create_server(self, *arguments: Any, **options: Any) -> asyncio.Server:
        """As the loop does, with a deadline for the handshake."""
        if options.get("ssl") is not None:
            options.setdefault("ssl_handshake_timeout", HANDSHAKE_SECONDS)
        return await super().create_server(*arguments, **options)


class Protocol(H11Protocol):
    """HTTP with deadlines: for a head, for a body, and for the certificate that opened the connection."""

    _deadline: asyncio.TimerHandle | None = None
    _end: asyncio.TimerHandle | None = None
    _bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to count."""
        super().connection_made(transport)
        self._watch(HEAD_SECONDS)
        self._end = self.loop.call_later(min(MOST_AGE, _certificate_seconds(transport)), self.shutdown)

    def data_received(self, data: bytes) -> None:
        """Read on, unless it has become too much."""
        # The first bytes of a further request on the same connection.
        if self.conn.their_state is h11.IDLE and self._deadline is None:
            self._bytes = 0
            self._watch(HEAD_SECONDS)

        self._bytes += len(data)
        if self._bytes > REQUEST_BYTES:
            self.transport.abort()
            return

        super().data_received(data)
        state = self.conn.their_state

        if state is h11.SEND_BODY:
            # Once for a body, or each block would give the client more time.
            if self._in_head:
                self._watch(BODY_SECONDS, in_head=False)
        elif state is not h11.IDLE:
            self._rest()

    def on_response_complete(self) -> None:
        """Nothing of the last request counts for the next one."""
        if self.conn.their_state is h11.DONE:
            self._rest()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        self._rest()
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def _watch(self, seconds: float, *, in_head: bool = True) -> None:
        self._rest()
        self._in_head = in_head
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _rest(self) -> None:
        self._in_head = True
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _certificate_seconds(transport: asyncio.Transport) -> float:
    """For how long the client's certificate still counts; without one, for ever."""
    secure = transport.get_extra_info("ssl_object")
    certificate = secure.getpeercert() if secure is not None else None
    if not certificate or "notAfter" not in certificate:
        return float("inf")
    return max(ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time(), 0.0)
