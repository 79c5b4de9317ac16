"""A relay in front of a gRPC server, which cannot count addresses: it passes bytes on, TLS included."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing, suppress

from common.platform.listening.listener import Listener

_BLOCK = 2**16


class FrontDoor:
    """Relay connections of a `Listener` to a server at a Unix socket, in its own thread, until `close`.

    The server behind it sets the deadlines: when it closes a connection, so does the relay.
    """

    def __init__(self, listener: Listener, inside: str) -> None:
        self._listener = listener
        self._inside = inside
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="front-door", daemon=True)
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        """Close all connections."""
        with suppress(RuntimeError, AttributeError):  # the loop has ended by itself, or never begun
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(5)

    def _run(self) -> None:
        try:
            # Not another library's loop: it would accept connections without calling the listener.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve())
        finally:
            self._ready.set()
            self._listener.close()

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._pass_on, sock=self._listener, limit=_BLOCK)
        self._ready.set()
        await self._ended.wait()
        server.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError):
            inward, outward = await asyncio.open_unix_connection(self._inside, limit=_BLOCK)
            with closing(outward):
                both = [asyncio.create_task(_copy(reader, outward)), asyncio.create_task(_copy(inward, writer))]
                try:
                    # HTTP/2 never half-closes a connection: when one direction ends, so does the other.
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in both:
                        task.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while block := await reader.read(_BLOCK):
            writer.write(block)
            await writer.drain()
