"""What hospitals reach of SuperLink: the routes a SuperNode needs, and nothing else.

SuperLink serves Fleet (SuperNodes, signed by node keys), Control (no credentials) and Runtime on one port. It stays on
loopback; this forwards the routes below to it over verified TLS, streaming both ways, and answers all else with an
empty 403. A busy or absent SuperLink is a 503, which SuperNodes retry. Before a node's sign-in is checked nothing but
headers is read, and an address has few connections, each with little time.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from common.errors import FedForgetError
from common.platform.listening.http_listener import PUNCTUAL_LOOP, Connections, Listener, PunctualProtocol
from common.platform.processes.flower import LOOPBACK
from server.runtime.flower_database import node_keys
from server.runtime.node_sign_in import NodeSignIn
from server.settings import ServerFolder

log = logging.getLogger("fedforget.gateway")

Headers = list[tuple[bytes, bytes]]

ROUTES = (
    "activate-node",
    "deactivate-node",
    "send-node-heartbeat",
    "pull-messages",
    "push-messages",
    "get-run",
    "get-fab",
    "push-object",
    "pull-object",
    "confirm-message-received",
)
"""Below `/v1/fleet/`: all that a SuperNode with a registered key calls. Registering is the coordinator's."""

_ALLOWED = frozenset(f"/v1/fleet/{route}".encode() for route in ROUTES)
"""Compared with the path as it was sent: no `//`, `..`, `%`, host or query gets past it."""

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding"
    b" upgrade".split()
)
"""RFC 9110, section 7.6.1."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take of the gateway."""

    body_bytes: int = 32 * 2**20
    """Flower cuts arrays into pieces of 5 MiB."""
    header_bytes: int = 32 * 2**10
    concurrent: int = 32
    """Requests of one address at a time; hospitals behind one address share them."""
    exchange_seconds: float = 300.0
    """For taking a request in, and again for giving its answer back."""
    idle_seconds: float = 30.0
    """Without a byte of a body, or without taking one of an answer."""
    route_bytes: Mapping[str, int] = field(default_factory=dict)
    """Bodies of the routes that need fewer bytes than `body_bytes`."""


SMALL_BODIES = MappingProxyType(dict.fromkeys(ROUTES, 2**16) | {"push-messages": 2**18, "push-object": 32 * 2**20})
"""Arrays travel in push-object alone. A message names its objects in 64 bytes each: 2**18 bytes name some 3,800,
more than any model here has; SuperLink takes about a second for a thousand.
"""


class SlowBodyError(Exception):
    """A client sends the rest of its body too slowly."""


class Gateway:
    """The ASGI endpoint that forwards to the SuperLink behind `upstream`.

    Args:
        upstream: reaches SuperLink.
        limits: of one client.
        sign_in: knows the registered nodes; without it SuperLink alone checks them.
        connections: is told from where somebody signed in.
    """

    def __init__(
        self,
        upstream: httpx.AsyncClient,
        limits: Limits,
        sign_in: NodeSignIn | None = None,
        connections: Connections | None = None,
    ) -> None:
        self._upstream = upstream
        self._limits = limits
        self._sign_in = sign_in
        self._connections = connections
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        client = request.client.host if request.client else ""
        refusal = _refusal(request, self._limits)
        # By address, as hospitals have no name before their sign-in is checked.
        if refusal is None and self._running[client] >= self._limits.concurrent:
            refusal = 503
        if refusal is None:
            refusal = await self._stranger(request, client)
        if refusal is not None:
            # The body was not read: the connection cannot carry another request.
            await Response(status_code=refusal, headers={"connection": "close"})(scope, receive, send)
            return

        self._running[client] += 1
        try:
            await self._forward(request, send)
        finally:
            self._running[client] -= 1
            # Otherwise the table would grow by every address that ever called.
            if not self._running[client]:
                del self._running[client]

    async def _stranger(self, request: Request, client: str) -> int | None:
        """What a client is answered that no registered node's key signs for; None for one that it does."""
        if self._sign_in is None:
            return None
        try:
            is_allowed = await self._sign_in.allows(request.headers)
        except FedForgetError as err:
            log.warning("nobody can sign in: %s", err)
            return 503

        if not is_allowed:
            return 401
        if self._connections is not None:
            self._connections.welcome(client)
        return None

    async def _forward(self, request: Request, send: Send) -> None:
        # `_refusal` has seen to it that there is exactly one.
        length = (b"content-length", request.headers["content-length"].encode())
        outgoing = self._upstream.build_request(
            "POST",
            request.scope["raw_path"].decode("ascii"),
            headers=[*forwarded(request.headers.raw), length],
            content=_punctual(request.stream(), self._limits.idle_seconds),
        )
        failure = 0

        try:
            async with asyncio.timeout(self._limits.exchange_seconds):
                answer = await self._upstream.send(outgoing, stream=True)
        except ClientDisconnect:
            return
        except httpx.TransportError:
            failure = 503
        except SlowBodyError:
            failure = 408
        except TimeoutError:
            failure = 504

        if failure:
            await Response(status_code=failure, headers={"connection": "close"})(request.scope, request.receive, send)
            return

        try:
            async with asyncio.timeout(self._limits.exchange_seconds):
                await _pass_on(answer, send, self._limits.idle_seconds)
        finally:
            await answer.aclose()


async def _punctual(body: AsyncIterator[bytes], idle_seconds: float) -> AsyncIterator[bytes]:
    """The pieces of a body; each must come in time."""
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                piece = await anext(body, None)
        except TimeoutError:
            raise SlowBodyError from None

        if piece is None:
            return
        yield piece


async def _pass_on(answer: httpx.Response, send: Send, idle_seconds: float) -> None:
    """Send the answer as it comes; a failure on the way ends the connection, which tells the client."""
    headers = forwarded(answer.headers.raw, keep_length=True)
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    async for chunk in answer.aiter_raw():
        async with asyncio.timeout(idle_seconds):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    await send({"type": "http.response.body", "body": b"", "more_body": False})


def forwarded(headers: Iterable[tuple[bytes, bytes]], *, keep_length: bool = False) -> Headers:
    """The headers that go on to the other side: none that belongs to this connection, and no claim about its origin."""
    pairs = [(name.lower(), value) for name, value in headers]
    hop_headers = {part.strip().lower() for name, value in pairs if name == b"connection" for part in value.split(b",")}
    headers_dropped = (
        _HOP_BY_HOP | hop_headers | {b"host", b"forwarded"} | (set() if keep_length else {b"content-length"})
    )

    return [
        (name, value) for name, value in pairs if name not in headers_dropped and not name.startswith(b"x-forwarded-")
    ]


def _refusal(request: Request, limits: Limits) -> int | None:
    if request.method != "POST" or request.url.query or request.scope["raw_path"] not in _ALLOWED:
        return 403
    if sum(len(name) + len(value) for name, value in request.headers.raw) > limits.header_bytes:
        return 431
    length = request.headers.getlist("content-length")
    # Without a length, nothing could be refused before it is read.
    if "transfer-encoding" in request.headers or len(length) != 1 or not length[0].isdecimal():
        return 411
    route = request.scope["raw_path"].rpartition(b"/")[2].decode("ascii")

    return 413 if int(length[0]) > limits.route_bytes.get(route, limits.body_bytes) else None


def gateway_app(
    upstream: str,
    ca: Path,
    limits: Limits = Limits(),
    sign_in: NodeSignIn | None = None,
    connections: Connections | None = None,
) -> Starlette:
    """The gateway to the SuperLink at `upstream` (`https://host:port`), whose certificate `ca` must have issued."""
    client = httpx.AsyncClient(
        base_url=upstream,
        verify=ssl.create_default_context(cafile=str(ca)),
        timeout=httpx.Timeout(30.0, read=limits.exchange_seconds),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
        # Never through a proxy of the environment: SuperLink is on this machine.
        trust_env=False,
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    app = Starlette(lifespan=lifespan)
    app.router.default = Gateway(client, limits, sign_in, connections)

    return app


def main() -> None:
    """Run the gateway of a coordinator's folder until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m server.runtime.gateway", description="Forward Flower's fleet routes only."
    )
    parser.add_argument("--dir", type=Path, required=True, help="the coordinator's folder")
    folder = ServerFolder(parser.parse_args().dir)
    ports = folder.settings().ports
    limits = Limits(route_bytes=SMALL_BODIES)
    connections = Connections()
    upstream = f"https://{LOOPBACK}:{ports.superlink}"
    sign_in = NodeSignIn(lambda: node_keys(folder.flower_database))
    config = uvicorn.Config(
        gateway_app(upstream, folder.ca_certificate, limits, sign_in, connections),
        ssl_certfile=str(folder.certificate),
        ssl_keyfile=str(folder.key),
        http=PunctualProtocol,
        loop=PUNCTUAL_LOOP,
        h11_max_incomplete_event_size=limits.header_bytes,
        timeout_keep_alive=30,
        server_header=False,
        access_log=False,
        proxy_headers=False,
        ws="none",
    )
    with Listener.at(ports.listen, ports.gateway, connections) as listener:
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
