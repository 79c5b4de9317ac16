"""deploy/nginx-one-port.conf in a real nginx: both services of the coordinator behind one port, told apart by name."""

from __future__ import annotations

import http.client
import http.server
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from common.errors import ConfigError
from common.platform.keys.certificates import certificate_pem, issue_site, load_certificate
from common.platform.keys.private_keys import load_ec_key, read_passphrase
from common.platform.sql import open_database, transaction
from common.protocol.coordination import coordination_pb2 as messages
from common.protocol.coordination.coordination_pb2_grpc import CoordinationStub
from server.database import SiteRow
from server.membership.coordination import Coordination, serve
from server.membership.enrolment import open_authority
from server.membership.setup import create_server
from server.registry.registry import Registry
from server.settings import ServerFolder

DEPLOY = Path(__file__).parents[2] / "deploy"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
GATEWAY = "gateway.example.org"
COORDINATION = "coordination.example.org"
SECONDS = 20.0


class SuperLink(http.server.BaseHTTPRequestHandler):
    """Answers with the path that it was asked for."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Front:
    """A coordinator behind one port, and the client certificate of one hospital."""

    port: int
    ca: Path
    certificate: bytes
    key: bytes

    def post(self, name: str, path: str) -> tuple[int, bytes]:
        """Over TLS with this name as SNI."""
        raw = socket.create_connection(("127.0.0.1", self.port), SECONDS)
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = http.client.HTTPConnection(name)
        with context.wrap_socket(raw, server_hostname=name) as connection.sock:
            connection.request("POST", path, body=b"x")
            answer = connection.getresponse()
            return answer.status, answer.read()

    def status(self, name: str, *, certified: bool = True) -> messages.StatusReply:
        """A gRPC call with mutual TLS."""
        identity = (self.key, self.certificate) if certified else (None, None)
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes(), *identity)
        options = [("grpc.ssl_target_name_override", name), ("grpc.enable_retries", 0)]
        with grpc.secure_channel(f"127.0.0.1:{self.port}", credentials, options) as channel:
            return CoordinationStub(channel).Status(messages.StatusRequest(), timeout=SECONDS)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    if NGINX is None or not STREAM.exists():
        pytest.skip("nginx has no stream module: apt-get install nginx-light libnginx-mod-stream")
    root = tmp_path_factory.mktemp("one-port")
    create_server(root / "coordinator", [GATEWAY, COORDINATION], datetime.now(UTC), ("no", "yes"))
    folder = ServerFolder(root / "coordinator")

    with ExitStack() as stack:
        superlink = stack.enter_context(_superlink(folder))
        certificate, key = _hospital(folder)
        coordination = stack.enter_context(_coordination(folder, certificate))
        port, inner, stripped = _free(3)
        ports = {"443": port, "8443": inner, "8445": stripped, "8444": coordination, "18000": superlink}
        _nginx(stack, root, folder, ports)
        yield Front(port, folder.ca_certificate, certificate, key)


def test_both_services_answer_behind_one_port(front: Front) -> None:
    assert front.post(GATEWAY, "/v1/fleet/get-run") == (200, b"/v1/fleet/get-run")
    assert front.post(GATEWAY, "/v1/control/start-run")[0] == 403
    assert front.status(COORDINATION).standing == messages.StatusReply.STANDING_ACTIVE


def test_bundles_name_the_public_addresses_and_only_those_of_the_certificate(tmp_path: Path) -> None:
    create_server(tmp_path / "c", [GATEWAY, COORDINATION], datetime.now(UTC), ("no", "yes"))
    folder = ServerFolder(tmp_path / "c")
    text = folder.settings_file.read_text()
    assert open_authority(folder).coordination == f"{GATEWAY}:8444"

    def with_ports(gateway: str, coordination: str) -> None:
        lines = f'[ports]\npublic_gateway = "{gateway}"\npublic_coordination = "{coordination}"\n'
        folder.settings_file.write_text(text.replace("[ports]\n", lines))

    with_ports(f"{GATEWAY}:443", f"{COORDINATION}:443")
    authority = open_authority(folder)
    assert (authority.gateway, authority.coordination) == (f"{GATEWAY}:443", f"{COORDINATION}:443")
    wrongs = {"other.example.org:443": "missing in `hosts`", f"{GATEWAY}:443": "two names", "x": "match"}
    for wrong, problem in wrongs.items():
        with_ports(f"{GATEWAY}:443", wrong)
        with pytest.raises(ConfigError, match=problem):
            folder.settings()


def test_mutual_tls_holds_from_end_to_end(front: Front) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        front.status(COORDINATION, certified=False)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("name", ["localhost", "other.example.org"])
def test_no_other_name_reaches_anything(front: Front, name: str) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        front.post(name, "/v1/fleet/get-run")


def _free(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _nginx(stack: ExitStack, root: Path, folder: ServerFolder, ports: dict[str, int]) -> None:
    """Both files as they stand, with these ports and the edits that they ask for."""
    assert NGINX is not None
    one_port = (DEPLOY / "nginx-one-port.conf").read_text(encoding="utf-8")
    gateway = (DEPLOY / "nginx.conf").read_text(encoding="utf-8").replace("/srv/fedforget", str(folder.root))
    gateway = gateway.replace("    listen 8443 ssl;\n", "").replace("fedforget.example.org", GATEWAY)
    proxied = (
        "listen 127.0.0.1:8443 ssl proxy_protocol;",
        "set_real_ip_from 127.0.0.1;",
        "real_ip_header   proxy_protocol;",
    )
    for line in proxied:
        assert f"    # {line}" in gateway
        gateway = gateway.replace(f"    # {line}", f"    {line}")
    one_port = one_port.replace("listen 443;", f"listen 127.0.0.1:{ports['443']};")
    for default in ("8443", "8444", "8445", "18000"):
        one_port = one_port.replace(f"127.0.0.1:{default}", f"127.0.0.1:{ports[default]}")
        gateway = gateway.replace(f"127.0.0.1:{default}", f"127.0.0.1:{ports[default]}")

    (root / "one-port.conf").write_text(one_port)
    (root / "gateway.conf").write_text(gateway)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    rooms = "".join(f"{kind}_temp_path {root / kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    head = f"load_module {STREAM}; {user} daemon off; pid {root / 'pid'}; events {{}}"
    body = f"include {root}/one-port.conf; http {{ {rooms} include {root}/gateway.conf; }}"
    (root / "nginx.conf").write_text(f"{head} {body}")
    command = [NGINX, "-p", str(root), "-c", str(root / "nginx.conf"), "-e", str(root / "errors")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(command)
    stack.callback(process.wait, SECONDS)
    stack.callback(process.send_signal, signal.SIGTERM)
    end = time.monotonic() + SECONDS

    while True:
        try:
            socket.create_connection(("127.0.0.1", ports["443"]), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.05)


def _hospital(folder: ServerFolder) -> tuple[bytes, bytes]:
    """An enrolled hospital's certificate and key."""
    ca_key = load_ec_key(folder.ca_key, read_passphrase(folder.passphrase))
    key = ec.generate_private_key(ec.SECP256R1())
    issued = issue_site(load_certificate(folder.ca_certificate), ca_key, key.public_key(), "north", datetime.now(UTC))
    return certificate_pem(issued), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@contextmanager
def _coordination(folder: ServerFolder, certificate: bytes) -> Iterator[int]:
    """The coordination service, which knows one hospital; gives its port."""
    engine = open_database(folder.database_url(folder.settings()))
    with transaction(engine) as session:
        row = SiteRow(name="north", state="active", node_key="", signing_key="", enrolled=datetime.now(UTC))
        row.certificate = certificate.decode()
        session.add(row)
    versions = Registry(folder.models, engine, lambda: datetime.now(UTC)).deliveries
    server, port = serve(
        Coordination(engine, lambda: datetime.now(UTC), versions),
        "127.0.0.1:0",
        certificate=folder.certificate.read_bytes(),
        key=folder.key.read_bytes(),
        ca=folder.ca_certificate.read_bytes(),
    )
    try:
        yield port
    finally:
        server.stop(None).wait()
        engine.dispose()


@contextmanager
def _superlink(folder: ServerFolder) -> Iterator[int]:
    """What the gateway passes on to; gives its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SuperLink)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder.certificate, folder.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
