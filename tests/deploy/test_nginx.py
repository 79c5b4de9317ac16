"""deploy/nginx.conf in a real nginx, before a server with the coordinator's certificate."""

from __future__ import annotations

import http.client
import http.server
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.runtime.gateway import ROUTES
from server.settings import PortsConfig, ServerFolder

CONFIG = (Path(__file__).parents[2] / "deploy" / "nginx.conf").read_text(encoding="utf-8")
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
SECONDS = 20.0
Ask = Callable[..., tuple[int, bytes]]


class SuperLink(http.server.BaseHTTPRequestHandler):
    """Answers whatever comes with the path that it was asked for."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def superlink(coordinator: ServerFolder) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SuperLink)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(coordinator.certificate, coordinator.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def ask(tmp_path: Path, coordinator: ServerFolder, superlink: int) -> Iterator[Ask]:
    """Send a request through nginx as it stands, and get the status and the body."""
    if NGINX is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    text = CONFIG.replace("/srv/fedforget", str(coordinator.root))
    text = text.replace("127.0.0.1:18000", f"127.0.0.1:{superlink}").replace("listen 8443", f"listen 127.0.0.1:{port}")
    (tmp_path / "fedforget.conf").write_text(text)
    rooms = "".join(
        f"{kind}_temp_path {tmp_path / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # As root it would hand its requests to a user who cannot enter the tests' folder.
    user = "user root;" if os.geteuid() == 0 else ""
    main = f"{user} daemon off; pid {tmp_path / 'pid'}; events {{}}"
    (tmp_path / "nginx.conf").write_text(f"{main} http {{ {rooms} include {tmp_path / 'fedforget.conf'}; }}")
    command = [NGINX, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "errors")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(command)
    context = ssl.create_default_context(cafile=str(coordinator.ca_certificate))

    def send(path: str, method: str = "POST", body: bytes = b"x") -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=SECONDS)
        try:
            connection.request(method, path, body=body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    try:
        _wait_for(port, process)
        yield send
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.05)


def test_the_list_of_routes_is_the_embedded_gateways() -> None:
    listed = re.search(r'"\^/v1/fleet/\(([\w|-]+)\)\$"', CONFIG)
    assert listed
    assert listed[1].split("|") == list(ROUTES)


def test_the_ports_are_the_defaults() -> None:
    ports = PortsConfig()
    assert f"listen {ports.gateway} ssl;" in CONFIG
    assert f"server 127.0.0.1:{ports.superlink};" in CONFIG


def test_nginx_carries_what_a_node_asks_for_and_refuses_everything_else_alike(ask: Ask) -> None:
    for route in ROUTES:
        assert ask(f"/v1/fleet/{route}") == (200, f"/v1/fleet/{route}".encode())
    intruders = [
        "/",
        "/health",
        "/v1/control/start-run",
        "/v1/fleet/",
        "/v1/fleet/create-node",
        "/v1/fleet/get-run/",
        "/v1/fleet/get-run?x=1",
        "//v1/fleet/get-run",
        "/v1/fleet/../fleet/get-run",
        "/v1/fleet/%67et-run",
        "/v1/control/start-run?/v1/fleet/get-run",
    ]
    refused = ask("/", method="GET")
    assert refused[0] == 403
    assert b"fleet" not in refused[1]
    assert {path: ask(path) for path in intruders} == dict.fromkeys(intruders, refused)
    assert ask("/v1/fleet/get-run", method="GET") == refused


def test_nginx_takes_no_message_beyond_flowers_pieces(ask: Ask) -> None:
    status, body = ask("/v1/fleet/push-object", body=bytes(33 * 2**20))
    assert status == 413
    assert b"/v1/fleet" not in body


def test_nginx_takes_a_large_body_on_the_route_of_arrays_alone(ask: Ask) -> None:
    large = bytes(2**17)
    answers = {route: ask(f"/v1/fleet/{route}", body=large)[0] for route in ("push-object", "push-messages", "get-run")}
    assert answers == {"push-object": 200, "push-messages": 200, "get-run": 413}
    assert ask("/v1/fleet/push-messages", body=bytes(2**18 + 1))[0] == 413
