"""A listening socket that limits the connections of each address, before and after their handshake."""

from __future__ import annotations

import logging
import socket
import time
from collections import Counter
from typing import Any

TOTAL = 256
"""Maximum open connections of all addresses."""
_SECONDS_BETWEEN = 60.0

_log = logging.getLogger("fedforget.listener")


class Listener(socket.socket):
    """Close new connections of an address that has its share. For one thread, or one event loop.

    Args:
        family: family of the address to listen at.
        share: connections that one address may hold.
        total: connections that all addresses together may hold.
    """

    def __init__(self, family: socket.AddressFamily, share: int, total: int = TOTAL) -> None:
        super().__init__(family)
        self._share = share
        self._total = total
        self._open: Counter[str] = Counter()
        self._last_warning = float("-inf")

    def accept(self) -> tuple[socket.socket, Any]:
        """The next admitted connection; raises as `socket.accept`."""
        while True:
            number, address = self._accept()  # type: ignore[attr-defined]
            host = str(address[0])

            if self._open[host] >= self._share or self._open.total() >= self._total:
                socket.close(number)
                self._tell()
                continue

            self._open[host] += 1

            return _Counted(self, number, self._open, host), address

    def _tell(self) -> None:
        if time.monotonic() - self._last_warning > _SECONDS_BETWEEN:
            self._last_warning = time.monotonic()
            _log.warning(
                "connections are refused: %d are open, one address may hold %d", self._open.total(), self._share
            )


class _Counted(socket.socket):
    """A connection that reports its end."""

    def __init__(self, listener: socket.socket, number: int, counts: Counter[str], host: str) -> None:
        super().__init__(listener.family, listener.type, listener.proto, fileno=number)
        self.setblocking(False)
        self._counts: Counter[str] | None = counts
        self._host = host

    def close(self) -> None:
        """Close, and leave the count."""
        if self._counts is not None:
            self._counts[self._host] -= 1
            # Addresses without connections are dropped, or strangers would fill the memory.
            if not self._counts[self._host]:
                del self._counts[self._host]
            self._counts = None

        super().close()


def bound(host: str, port: int, share: int, total: int = TOTAL) -> Listener:
    """A listener that is bound but does not listen yet; raises an `OSError` if the address is taken."""
    listener = Listener(socket.AF_INET6 if ":" in host else socket.AF_INET, share, total)

    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise

    return listener
