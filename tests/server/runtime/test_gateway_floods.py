"""The gateway under bounded floods on loopback, with its own listener, protocol and event loop."""

import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from flwr.common import constant as flower
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore import constant as fleet
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from google.protobuf.message import DecodeError
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from common.errors import UnavailableError
from common.platform.keys.certificates import certificate_pem, issue_server, new_authority
from common.platform.listening import http_listener
from common.platform.listening.http_listener import PUNCTUAL_LOOP, Connections, Listener, PunctualProtocol
from server.runtime.gateway import ROUTES, SMALL_BODIES, Limits, gateway_app
from server.runtime.node_sign_in import KEY, SIGNATURE, TIME, TOLERANCE, NodeSignIn

Address = tuple[str, int]
ROUTE = "/v1/fleet/push-object"
NODE = ec.generate_private_key(ec.SECP384R1())
PUBLIC = NODE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
LIMITS = Limits(body_bytes=2**20, idle_seconds=0.5, exchange_seconds=5.0, route_bytes={"get-run": 100})


def signed(key: ec.EllipticCurvePrivateKey = NODE, at: datetime | None = None) -> dict[str, str]:
    stamp = (at or datetime.now(UTC)).isoformat()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signature = key.sign(stamp.encode(), ec.ECDSA(hashes.SHA256()))
    return {KEY: b64encode(public).decode(), TIME: stamp, SIGNATURE: b64encode(signature).decode()}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    now = datetime.now(UTC) - timedelta(minutes=1)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = new_authority(ca_key, now)
    (folder / "ca.crt").write_bytes(certificate_pem(ca))
    (folder / "server.crt").write_bytes(certificate_pem(issue_server(ca, ca_key, key.public_key(), ["127.0.0.1"], now)))
    (folder / "server.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    return folder


@contextmanager
def serving(app: ASGIApp, pki: Path, connections: Connections) -> Iterator[Address]:
    with Listener.at("127.0.0.1", 0, connections) as listener:
        config = uvicorn.Config(
            app,
            ssl_certfile=pki / "server.crt",
            ssl_keyfile=pki / "server.key",
            http=PunctualProtocol,
            loop=PUNCTUAL_LOOP,
            log_level="error",
            ws="none",
            timeout_keep_alive=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()

        try:
            while not server.started:
                time.sleep(0.01)
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join()


class Upstream:
    def __init__(self) -> None:
        self.seen = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.seen += 1
            while (await receive()).get("more_body"):
                pass
            await Response("ok")(scope, receive, send)


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def connections() -> Connections:
    return Connections(per_address=8, strangers=6)


@pytest.fixture
def gateway(
    pki: Path, upstream: Upstream, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Address]:
    monkeypatch.setattr(http_listener, "HANDSHAKE_SECONDS", 0.5)
    monkeypatch.setattr(http_listener, "HEAD_SECONDS", 0.5)
    sign_in = NodeSignIn(lambda: frozenset({PUBLIC}))

    with ExitStack() as stack:
        behind = stack.enter_context(serving(upstream, pki, Connections()))
        app = gateway_app(f"https://127.0.0.1:{behind[1]}", pki / "ca.crt", LIMITS, sign_in, connections)
        yield stack.enter_context(serving(app, pki, connections))


def trust(pki: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pki / "ca.crt"))


def post(
    gateway: Address, pki: Path, headers: dict[str, str] | None = None, content: bytes = b"x", route: str = ROUTE
) -> int:
    url = f"https://127.0.0.1:{gateway[1]}{route}"
    return httpx.post(url, content=content, headers=headers, verify=trust(pki), trust_env=False).status_code


def ends_after(connection: socket.socket) -> float:
    """Seconds until the other side ends a connection."""
    connection.settimeout(5)
    begin = time.monotonic()

    try:
        while connection.recv(4096):
            pass
    except (ConnectionError, ssl.SSLError):
        pass

    return time.monotonic() - begin


def secure(gateway: Address, pki: Path) -> ssl.SSLSocket:
    plain = socket.create_connection(gateway, 5)
    return trust(pki).wrap_socket(plain, server_hostname="127.0.0.1")


def test_the_headers_are_those_that_flower_signs() -> None:
    assert (KEY, TIME, SIGNATURE) == (
        fleet.FLEET_HTTP_PUBLIC_KEY_HEADER,
        flower.TIMESTAMP_HEADER,
        fleet.FLEET_HTTP_SIGNATURE_HEADER,
    )
    assert TOLERANCE.total_seconds() == flower.TIMESTAMP_TOLERANCE + flower.SYSTEM_TIME_TOLERANCE


def test_what_flowers_own_client_sends_is_let_through_on_every_route(
    gateway: Address, pki: Path, upstream: Upstream
) -> None:
    node = {"node": Node(node_id=1)}
    interceptors = [NodeAuthHttpInterceptor(NODE, NODE.public_key())]

    with FleetHttpClient(f"https://127.0.0.1:{gateway[1]}", interceptors=interceptors, verify=trust(pki)) as fleet:
        calls: list[Callable[[], object]] = [
            lambda: fleet.ActivateNode(ActivateNodeRequest(public_key=PUBLIC, heartbeat_interval=30)),
            lambda: fleet.PullMessages(PullMessagesRequest(**node)),
            lambda: fleet.PushObject(PushObjectRequest(**node, object_id="0" * 64, object_content=bytes(2**19))),
        ]
        for call in calls:
            # The server behind answers with something else than Flower does.
            with suppress(DecodeError, ValueError):
                call()

    assert upstream.seen == len(calls)


def test_an_enrolled_node_is_let_through(gateway: Address, pki: Path, upstream: Upstream) -> None:
    assert post(gateway, pki, signed()) == 200
    assert upstream.seen == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed(ec.generate_private_key(ec.SECP384R1())),
        signed(at=datetime.now(UTC) - timedelta(hours=3)),
        signed(at=datetime.now(UTC) + timedelta(hours=3)),
        {**signed(), TIME: "0001-01-01T00:00:00+23:59"},
        {**signed(), TIME: datetime.now().isoformat()},
        {**signed(), KEY: "!"},
        {**signed(), KEY: b64encode(b"no key").decode()},
        {**signed(), SIGNATURE: b64encode(b"0" * 96).decode()},
    ],
)
def test_nothing_of_a_stranger_is_read(
    gateway: Address, pki: Path, upstream: Upstream, headers: dict[str, str]
) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: h\r\n{lines}Content-Length: {LIMITS.body_bytes}\r\n\r\n"

    with secure(gateway, pki) as connection:
        connection.sendall(head.encode())
        connection.settimeout(5)
        assert connection.recv(4096).split()[1] == b"401"

    assert upstream.seen == 0


@pytest.mark.anyio
async def test_a_signature_cannot_be_checked_without_the_keys() -> None:
    def unavailable() -> frozenset[bytes]:
        raise UnavailableError("the database does not answer")

    with pytest.raises(UnavailableError):
        await NodeSignIn(unavailable).allows(Headers(signed()))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_half_open_connections_of_one_address_leave_room_for_others_and_end_soon(
    gateway: Address, pki: Path, connections: Connections
) -> None:
    flood = [socket.create_connection(gateway, 5) for _ in range(60)]
    try:
        while sum(connections._open.values()) < connections.strangers:
            time.sleep(0.01)
        assert sum(connections._open.values()) == connections.strangers
        assert connections.admit("198.51.100.7") is False, "a stranger of another address waits as well"
        connections.welcome("198.51.100.7")
        assert connections.admit("198.51.100.7"), "an address from which a node signed in does not"
        connections.leave("198.51.100.7")
        assert max(ends_after(connection) for connection in flood) < 3
    finally:
        for connection in flood:
            connection.close()

    assert post(gateway, pki, signed()) == 200


@pytest.mark.parametrize("sent", [b"", b"POST /v1/fl", b"POST /v1/fleet/get-run HTTP/1.1\r\nHost: h\r\n"])
def test_headers_that_do_not_come_end_the_connection(gateway: Address, pki: Path, sent: bytes) -> None:
    with secure(gateway, pki) as connection:
        connection.sendall(sent)
        assert ends_after(connection) < 3


def test_headers_that_trickle_in_end_the_connection(gateway: Address, pki: Path) -> None:
    with secure(gateway, pki) as connection:
        begin = time.monotonic()
        with pytest.raises((ConnectionError, ssl.SSLError)):
            trickle(connection, b"POST /v1/fleet/get-run HTTP/1.1\r\nHost: " + b"h" * 40)
        assert time.monotonic() - begin < 3


def trickle(connection: socket.socket, data: bytes) -> None:
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def test_a_second_request_on_a_connection_must_come_in_time_too(gateway: Address, pki: Path) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed().items())
    with secure(gateway, pki) as connection:
        connection.sendall(f"POST {ROUTE} HTTP/1.1\r\nHost: h\r\n{lines}Content-Length: 1\r\n\r\nx".encode())
        assert connection.recv(4096).split()[1] == b"200"
        connection.sendall(b"POST /v1")
        assert ends_after(connection) < 3


def test_a_body_that_stops_is_ended_and_leaves_nothing_running(gateway: Address, pki: Path) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed().items())
    with secure(gateway, pki) as connection:
        connection.sendall(f"POST {ROUTE} HTTP/1.1\r\nHost: h\r\n{lines}Content-Length: 1000\r\n\r\nabc".encode())
        connection.settimeout(5)
        assert connection.recv(4096).split()[1] == b"408"

    assert post(gateway, pki, signed()) == 200


def test_each_route_has_its_own_bound_before_anything_is_read(gateway: Address, pki: Path, upstream: Upstream) -> None:
    assert post(gateway, pki, signed(), b"x" * 101, "/v1/fleet/get-run") == 413
    assert post(gateway, pki, signed(), b"x" * 101) == 200
    assert upstream.seen == 1


def test_every_route_but_that_of_arrays_takes_little() -> None:
    assert SMALL_BODIES.keys() == set(ROUTES)
    assert [route for route, most in SMALL_BODIES.items() if most > 2**18] == ["push-object"]


def test_connections_are_counted_by_who_can_have_many_addresses() -> None:
    counted = Connections(per_address=2)
    assert counted.admit("2001:db8::1")
    assert counted.admit("2001:db8::2")
    assert not counted.admit("2001:db8::3")
    assert counted.admit("2001:db8:0:1::1")
    assert counted.admit("::ffff:192.0.2.1")
    assert counted.admit("192.0.2.1")
    assert not counted.admit("192.0.2.1")
    counted.leave("192.0.2.1")
    assert counted.admit("192.0.2.1")


def test_who_signed_in_an_hour_ago_is_a_stranger_again() -> None:
    now = [0.0]
    counted = Connections(per_address=9, strangers=1, clock=lambda: now[0])
    assert counted.admit("192.0.2.1")
    counted.welcome("192.0.2.2")
    assert counted.admit("192.0.2.2")
    now[0] = 3601.0
    assert not counted.admit("192.0.2.2")
