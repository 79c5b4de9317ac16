"""The gateway in front of a small TLS server that tells what reached it; both are real, on free ports."""

import asyncio
import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.types import ASGIApp, Receive, Scope, Send

from common.platform.keys.certificates import certificate_pem, issue_server, new_authority
from server.runtime.gateway import ROUTES, Limits, forwarded, gateway_app

ROUTE = f"/v1/fleet/{ROUTES[0]}"
LIMITS = Limits(body_bytes=8 * 2**20, header_bytes=4096, concurrent=4, exchange_seconds=2.0)


class Upstream:
    """Echoes bodies as they come, and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[bytes, bytes]]] = []
        self.delay = 0.0
        self.started = threading.Event()
        self.arriving = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.seen.append((scope["method"], scope["raw_path"].decode(), dict(scope["headers"])))
        self.started.set()
        await asyncio.sleep(self.delay)
        digest = hashlib.sha256()
        more = True

        while more:
            part = await receive()
            if part["type"] == "http.disconnect":
                return
            digest.update(part["body"])
            if part["body"]:
                self.arriving.set()
            more = part["more_body"]

        headers = [(b"content-length", b"64"), (b"x-kept", b"1"), (b"connection", b"x-private"), (b"x-private", b"1")]
        await send({"type": "http.response.start", "status": 209, "headers": headers})
        await send({"type": "http.response.body", "body": digest.hexdigest().encode()})


@contextmanager
def serving(app: ASGIApp, pki: Path) -> Iterator[str]:
    """`app` under TLS on a free port, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app,
            ssl_certfile=pki / "server.crt",
            ssl_keyfile=pki / "server.key",
            http="h11",
            log_level="error",
            ws="none",
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()

        try:
            while not server.started:
                time.sleep(0.01)
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA and a server certificate, and a second CA that issued nothing here."""
    folder = tmp_path_factory.mktemp("pki")
    now = datetime.now(UTC) - timedelta(minutes=1)

    for name in ("other", "ca"):
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca = new_authority(ca_key, now)
        (folder / f"{name}.crt").write_bytes(certificate_pem(ca))

    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "server.crt").write_bytes(certificate_pem(issue_server(ca, ca_key, key.public_key(), ["127.0.0.1"], now)))
    (folder / "server.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    return folder


@pytest.fixture(scope="module")
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture(scope="module")
def gateway(pki: Path, upstream: Upstream) -> Iterator[str]:
    with ExitStack() as stack:
        behind = stack.enter_context(serving(upstream, pki))
        yield stack.enter_context(serving(gateway_app(f"https://{behind}", pki / "ca.crt", LIMITS), pki))


@pytest.fixture
def client(gateway: str, pki: Path, upstream: Upstream) -> Iterator[httpx.Client]:
    upstream.seen.clear()
    upstream.started.clear()
    upstream.arriving.clear()
    upstream.delay = 0
    trust = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    with httpx.Client(base_url=f"https://{gateway}", verify=trust, trust_env=False) as one:
        yield one


def raw(gateway: str, pki: Path, request: bytes) -> bytes:
    """Send bytes as they are and read the answer to its end."""
    trust = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    host, port = gateway.split(":")

    with (
        socket.create_connection((host, int(port)), 10) as plain,
        trust.wrap_socket(plain, server_hostname=host) as tls,
    ):
        tls.sendall(request)
        answer = b""
        while piece := tls.recv(65536):
            answer += piece

    return answer


def test_a_fleet_route_is_forwarded_with_body_headers_and_answer(client: httpx.Client, upstream: Upstream) -> None:
    body = bytes(range(256)) * 2**14  # 4 MiB
    passed_on = []

    def parts() -> Iterator[bytes]:
        yield body[: len(body) // 2]
        passed_on.append(upstream.arriving.wait(30))
        yield body[len(body) // 2 :]

    answer = client.post(ROUTE, content=parts(), headers={"x-signature": "s", "content-length": str(len(body))})
    assert (answer.status_code, answer.text) == (209, hashlib.sha256(body).hexdigest())
    [(method, path, headers)] = upstream.seen
    assert (method, path, headers[b"x-signature"]) == ("POST", ROUTE, b"s")
    assert headers[b"content-length"] == str(len(body)).encode()
    assert passed_on == [True], "the first half is passed on before the second is there"


def test_headers_of_the_connection_and_claims_of_origin_are_dropped_both_ways(
    client: httpx.Client, upstream: Upstream
) -> None:
    named = {
        "connection": "x-mine, close",
        "x-mine": "1",
        "te": "trailers",
        "x-forwarded-for": "10.0.0.1",
        "forwarded": "f",
    }
    answer = client.post(ROUTE, content=b"", headers=named)
    arrived = set(upstream.seen[0][2])
    assert not arrived & {b"x-mine", b"te", b"x-forwarded-for", b"forwarded"}
    assert answer.headers["x-kept"] == "1"
    assert "x-private" not in answer.headers


def test_forwarded_knows_headers_whatever_their_case() -> None:
    assert forwarded([(b"Connection", b"X-A"), (b"x-a", b"1"), (b"Transfer-Encoding", b"chunked"), (b"B", b"2")]) == [
        (b"b", b"2")
    ]


@pytest.mark.parametrize(
    "target",
    [
        "/v1/control/list-nodes",
        "/v1/runtime/acquire-task",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "//v1/control/list-nodes",
        "//v1/fleet/get-run",
        "/v1/fleet//get-run",
        "/v1/fleet/../control/list-nodes",
        "/v1/fleet/get-run/../../control/list-nodes",
        "/v1/fleet/%2e%2e/control/list-nodes",
        "/v1/fleet/..%2fcontrol/list-nodes",
        "/v1/%66leet/get-run",
        "/v1/fleet/get-run%00",
        "/v1/fleet/get-run/",
        "/v1/fleet/get-run;/v1/control/list-nodes",
        "/v1/fleet/get-run?x=1",
        "/V1/FLEET/GET-RUN",
        "/v1/fleet\\..\\control\\list-nodes",
        "https://127.0.0.1/v1/control/list-nodes",
        "http://x/v1/fleet/../control/list-nodes",
        "/v1/fleet",
        "/health",
        "/docs",
        "/openapi.json",
        "/",
        "*",
    ],
)
def test_every_other_path_is_an_empty_403_and_reaches_nothing(
    gateway: str, pki: Path, client: httpx.Client, upstream: Upstream, target: str
) -> None:
    answer = raw(
        gateway, pki, f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] in (b"403", b"400")
    assert body in (b"", b"Invalid HTTP request received.")
    assert not upstream.seen


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE"])
def test_every_other_method_is_refused(client: httpx.Client, upstream: Upstream, method: str) -> None:
    assert client.request(method, ROUTE).status_code == 403
    assert not upstream.seen


def test_a_body_over_the_limit_is_refused_before_it_is_read(
    gateway: str, pki: Path, client: httpx.Client, upstream: Upstream
) -> None:
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: h\r\nContent-Length: {LIMITS.body_bytes + 1}\r\n\r\n"
    assert b" 413 " in raw(gateway, pki, head.encode())
    assert not upstream.seen


@pytest.mark.parametrize(
    "headers",
    [
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"",
    ],
)
def test_a_body_of_unclear_length_is_refused(
    gateway: str, pki: Path, client: httpx.Client, upstream: Upstream, headers: bytes
) -> None:
    request = b"POST " + ROUTE.encode() + b" HTTP/1.1\r\nHost: h\r\n" + headers + b"Connection: close\r\n\r\n0\r\n\r\n"
    assert raw(gateway, pki, request).split(b" ")[1] in (b"411", b"400")
    assert not upstream.seen


def test_headers_over_the_limit_are_refused(client: httpx.Client, upstream: Upstream) -> None:
    assert client.post(ROUTE, headers={"x-long": "x" * LIMITS.header_bytes}).status_code == 431
    assert not upstream.seen


def test_one_client_has_only_so_many_requests_at_a_time_and_the_rest_may_try_again(
    client: httpx.Client, upstream: Upstream
) -> None:
    upstream.delay = 0.8
    codes = []
    threads = [
        threading.Thread(target=lambda: codes.append(client.post(ROUTE, content=b"x").status_code)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [209] * LIMITS.concurrent + [503] * (8 - LIMITS.concurrent)
    upstream.delay = 0
    assert client.post(ROUTE, content=b"x").status_code == 209


def test_a_silent_superlink_is_a_504(client: httpx.Client, upstream: Upstream) -> None:
    upstream.delay = LIMITS.exchange_seconds + 1
    assert client.post(ROUTE, content=b"x").status_code == 504


def test_an_absent_superlink_is_a_503_which_supernodes_retry(pki: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    trust = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    with serving(gateway_app(f"https://127.0.0.1:{port}", pki / "ca.crt", LIMITS), pki) as gateway:
        assert httpx.post(f"https://{gateway}{ROUTE}", verify=trust, trust_env=False).status_code == 503


def test_a_superlink_under_another_authority_gets_nothing(pki: Path, client: httpx.Client, upstream: Upstream) -> None:
    trust = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    with serving(upstream, pki) as behind:
        app = gateway_app(f"https://{behind}", pki / "other.crt", LIMITS)
        with serving(app, pki) as gateway:
            assert httpx.post(f"https://{gateway}{ROUTE}", verify=trust, trust_env=False).status_code == 503

    assert not upstream.seen


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing_running(
    gateway: str, pki: Path, client: httpx.Client, upstream: Upstream
) -> None:
    for _ in range(2 * LIMITS.concurrent):
        trust = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        host, port = gateway.split(":")

        with (
            socket.create_connection((host, int(port))) as plain,
            trust.wrap_socket(plain, server_hostname=host) as tls,
        ):
            tls.sendall(f"POST {ROUTE} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nabc".encode())
            assert upstream.started.wait(5)
            upstream.started.clear()

    time.sleep(0.2)
    assert client.post(ROUTE, content=b"x").status_code == 209
