"""An HTTP proxy on loopback that knows CONNECT alone: it counts, asks for a password, knows names that no DNS has."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """What runs.

    Attributes:
        names: hosts that it knows, with where they really are; all others are refused.
        login: `user:password` that is asked for, if any.
        asked: CONNECTs by `host:port`, also refused ones.
        port: where it listens.
    """

    names: Mapping[str, str]
    login: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://{self.login}{'@' if self.login else ''}127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            status, upstream = await self._opened(await reader.readuntil(b"\r\n\r\n"))
            if upstream is None:
                self.refused[status] += 1
                writer.write(f"HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
            else:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                with closing(upstream[1]):
                    await asyncio.gather(_pipe(reader, upstream[1]), _pipe(upstream[0], writer))

    async def _opened(self, head: bytes) -> tuple[int, tuple[asyncio.StreamReader, asyncio.StreamWriter] | None]:
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        self.asked[target] += 1
        headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines[1:] if line)}
        if method != "CONNECT":
            return 405, None
        if (
            self.login
            and headers.get("proxy-authorization") != f"Basic {base64.b64encode(self.login.encode()).decode()}"
        ):
            return 407, None

        host, _, port = target.rpartition(":")
        if host not in self.names:
            return 403, None
        try:
            return 200, await asyncio.open_connection(self.names[host], int(port))
        except OSError:
            return 502, None


@contextmanager
def connect_proxy(names: Mapping[str, str], login: str = "") -> Iterator[ConnectProxy]:
    """Run one in a thread."""
    proxy = ConnectProxy(names, login)
    ready = threading.Event()
    stops = list[Callable[[], object]]()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        stops.append(lambda: loop.call_soon_threadsafe(ended.set))
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        ready.set()
        await ended.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    ready.wait(10)

    try:
        yield proxy
    finally:
        stops[0]()
        thread.join(10)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while block := await reader.read(2**16):
            writer.write(block)
            await writer.drain()

    writer.close()
