"""The doctor's looks at the network, at real TLS servers with good and bad certificates and clocks."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from common.platform.checks import Check
from common.platform.keys.certificates import certificate_pem, issue_server, new_authority
from common.platform.processes import probes

NOW = datetime.now(UTC)


class Authority:
    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = new_authority(self.key, NOW - timedelta(days=1000))
        self.path = folder / f"{name}.crt"
        self.path.write_bytes(certificate_pem(self.certificate))

    @contextmanager
    def serve(self, *hosts: str, issued: datetime = NOW, clock: timedelta = timedelta()) -> Iterator[int]:
        """A server whose certificate names `hosts` and whose `Date` is off by `clock`."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = issue_server(self.certificate, self.key, key.public_key(), hosts, issued)
        both = self.folder / f"{self.name}-server.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        both.write_bytes(certificate_pem(certificate) + private)

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response(403)
                self.end_headers()

            def date_time_string(self, timestamp: float | None = None) -> str:
                now = datetime.now(UTC) if timestamp is None else datetime.fromtimestamp(timestamp, UTC)
                return format_datetime(now + clock, usegmt=True)

            def log_message(self, format: str, *args: object) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)

        with HTTPServer(("127.0.0.1", 0), Handler) as server:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()

            try:
                yield server.server_port
            finally:
                server.shutdown()
                thread.join(5)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def serve(authority: Authority) -> Iterator[Callable[..., int]]:
    with ExitStack() as stack:
        yield lambda *hosts, **more: stack.enter_context(authority.serve(*hosts, **more))


def by_name(found: list[Check]) -> dict[str, tuple[str, str]]:
    return {check.name: (check.result, check.detail) for check in found}


def test_a_gateway_of_this_federation_is_found_with_its_days_and_an_equal_clock(
    authority: Authority, serve: Callable[..., int]
) -> None:
    found = by_name(probes.tls(("localhost", serve("localhost")), authority.path, NOW, 300))
    assert found["gateway TLS"] == ("ok", "localhost shows a certificate of this federation")
    assert found["gateway certificate"][0] == "ok"
    assert found["gateway certificate"][1].startswith("825 days")
    assert found["clock"] == ("ok", "agrees")


@pytest.mark.parametrize(("minutes", "word"), [(10, "behind"), (-10, "ahead of")])
def test_a_clock_ten_minutes_off_fails(
    authority: Authority, serve: Callable[..., int], minutes: int, word: str
) -> None:
    port = serve("localhost", clock=timedelta(minutes=minutes))
    result, detail = by_name(probes.tls(("localhost", port), authority.path, NOW, 300))["clock"]
    assert result == "fail"
    assert word in detail
    assert int(detail.split()[0]) in range(597, 604)


def test_a_name_that_the_certificate_does_not_have_is_told(authority: Authority, serve: Callable[..., int]) -> None:
    port = serve("fed.example.org")
    assert by_name(probes.tls(("other.example.org", port), authority.path, NOW, 300, at="127.0.0.1")) == {
        "gateway TLS": ("fail", "the certificate does not name other.example.org")
    }
    named = by_name(probes.tls(("fed.example.org", port), authority.path, NOW, 300, at="127.0.0.1"))
    assert named["gateway TLS"][0] == "ok"


def test_a_server_of_another_authority_is_told(tmp_path: Path, serve: Callable[..., int]) -> None:
    other = Authority(tmp_path, "other")
    assert by_name(probes.tls(("localhost", serve("localhost")), other.path, NOW, 300)) == {
        "gateway TLS": ("fail", "the certificate is not one of this federation")
    }


def test_an_expired_certificate_is_told(authority: Authority, serve: Callable[..., int]) -> None:
    port = serve("localhost", issued=NOW - timedelta(days=900))
    assert by_name(probes.tls(("localhost", port), authority.path, NOW, 300)) == {
        "gateway TLS": ("fail", "the certificate has expired"),
        "clock": ("ok", "agrees"),
    }


def test_a_certificate_that_is_not_valid_yet_because_of_this_clock_is_told_with_the_offset(
    authority: Authority, serve: Callable[..., int]
) -> None:
    later = timedelta(days=2)
    port = serve("localhost", issued=datetime.now(UTC) + later, clock=later)
    found = by_name(probes.tls(("localhost", port), authority.path, NOW, 300))
    assert found["gateway TLS"] == ("fail", "the certificate is not valid yet")
    result, detail = found["clock"]
    assert result == "fail"
    assert re.fullmatch(r"1728\d\d s behind the coordinator's, 300 s are allowed", detail)


def test_a_server_without_tls_is_told(authority: Authority) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        found = probes.tls(("127.0.0.1", server.server_port), authority.path, NOW, 300)
        thread.join(5)

    assert [(check.name, check.result) for check in found] == [("gateway TLS", "fail")]


def test_a_name_that_does_not_resolve_is_told() -> None:
    (check,) = probes.service("gateway", "no-such-host.invalid:8443")
    assert (check.name, check.result) == ("gateway name", "fail")


def test_a_port_where_nobody_listens_is_told_after_the_name(serve: Callable[..., int]) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port
    found = probes.service("gateway", f"localhost:{port}")
    assert [(check.name, check.result) for check in found] == [("gateway name", "ok"), ("gateway port", "fail")]
    assert [check.result for check in probes.service("gateway", f"localhost:{serve('localhost')}")] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("address", "parts"), [("fed.example.org:8443", ("fed.example.org", 8443)), ("[2001:db8::7]:1", ("2001:db8::7", 1))]
)
def test_an_address_is_split_into_host_and_port(address: str, parts: tuple[str, int]) -> None:
    assert probes.split(address) == parts


def test_a_card_that_is_asked_for_and_not_there_fails() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a card is there")
    assert [probes.gpu(device).result for device in ("cpu", "auto", "cuda")] == ["ok", "warn", "fail"]


def test_disk_and_memory_are_measured(tmp_path: Path) -> None:
    for check in (probes.disk(tmp_path, 1), probes.memory(1)):
        assert check.result == "ok"
        assert float(check.detail.split()[0]) > 0

    assert probes.disk(tmp_path, 2**80).result == "fail"


def test_an_up_whose_health_does_not_answer_fails() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port
    assert [check.result for check in probes.processes(port)] == ["fail"]
