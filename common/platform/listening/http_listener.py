"""Limit unauthenticated connections to an HTTP server: few from one address, and none that stays idle.

uvicorn only counts connections in total, so that one address could take them all. It gives a client a minute for its
handshake, and unlimited time for its headers.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HANDSHAKE_SECONDS = 10.0
HEAD_SECONDS = 10.0
"""From the connection, or the first byte, to the end of a request's headers."""
_KNOWN_SECONDS = 3600.0
_MOST_KNOWN = 4096


@dataclass(slots=True)
class Connections:
    """Count the open connections of each address.

    Args:
        per_address: maximum for one address (one /64 network in IPv6).
        strangers: maximum for all addresses together from which nobody signed in during the last hour, so that a flood
            shuts out strangers only.
        clock: a monotonic clock in seconds.
    """

    per_address: int = 64
    strangers: int = 512
    clock: Callable[[], float] = time.monotonic
    _open: Counter[str] = field(init=False, default_factory=Counter)
    _welcome_until: dict[str, float] = field(init=False, default_factory=dict)

    def admit(self, address: str) -> bool:
        """Count a new connection, if there is room for it."""
        origin = _origin(address)
        if self._open[origin] >= self.per_address:
            return False
        if not self._is_known(origin) and self._open_strangers() >= self.strangers:
            return False
        self._open[origin] += 1

        return True

    def leave(self, address: str) -> None:
        """An admitted connection has ended."""
        origin = _origin(address)
        self._open[origin] -= 1
        if self._open[origin] <= 0:
            del self._open[origin]

    def welcome(self, address: str) -> None:
        """A client has signed in from this address."""
        origin = _origin(address)
        # Removed and added again: the order of the dictionary is that of the last sign-in.
        self._welcome_until.pop(origin, None)
        self._welcome_until[origin] = self.clock() + _KNOWN_SECONDS
        if len(self._welcome_until) > _MOST_KNOWN:
            del self._welcome_until[next(iter(self._welcome_until))]

    def _is_known(self, origin: str) -> bool:
        return self._welcome_until.get(origin, 0.0) > self.clock()

    def _open_strangers(self) -> int:
        return sum(count for origin, count in self._open.items() if not self._is_known(origin))


def _origin(address: str) -> str:
    """The unit that one party controls: an IPv4 address, or a /64 network of IPv6."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address

    if ip.version == 4:
        return str(ip)
    return str(ip.ipv4_mapped) if ip.ipv4_mapped else ip.exploded[:19]


class Listener(socket.socket):
    """A listening socket that closes connections above the limits as soon as it accepts them, before any TLS."""

    connections: Connections

    @classmethod
    def at(cls, host: str, port: int, connections: Connections) -> Listener:
        """Bind `host:port`; port 0 is a free one.

        Raises:
            OSError: the address is taken.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = cls(family, socket.SOCK_STREAM)
        listener.connections = connections
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        try:
            listener.bind((host, port))
        except OSError:
            listener.close()
            raise

        listener.setblocking(False)

        return listener

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection that is admitted."""
        while True:
            handle, address = self._accept()  # type: ignore[attr-defined]  # as socket.socket.accept does
            connection = _Counted(self.family, self.type, self.proto, fileno=handle)
            if self.connections.admit(address[0]):
                connection.admission = (self.connections, address[0])
                return connection, address

            connection.close()


class _Counted(socket.socket):
    admission: tuple[Connections, str] | None = None

    def close(self) -> None:
        super().close()
        if self.admission is not None:
            connections, address = self.admission
            # `close` may be called several times; the connection leaves the count once.
            self.admission = None
            connections.leave(address)


class PunctualProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a deadline for the headers of a request."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Start the deadline for the rest of a request."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        # While a request is answered the client owes nothing.
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif self._deadline is None and self.timeout_keep_alive_task is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._end)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.abort()


class PunctualLoop(asyncio.SelectorEventLoop):
    """An event loop whose servers end slow TLS handshakes."""

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        """As in asyncio, with deadlines for TLS."""
        if options.get("ssl"):
            options = {"ssl_handshake_timeout": HANDSHAKE_SECONDS, "ssl_shutdown_timeout": 5.0, **options}
        return await super().create_server(*args, **options)


PUNCTUAL_LOOP = f"{__name__}:{PunctualLoop.__name__}"
"""For `uvicorn.Config(loop=...)`."""
