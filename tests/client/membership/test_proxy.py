"""Every outbound client of a hospital through a real CONNECT proxy, to hosts that only the proxy can reach."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from connect_proxy import ConnectProxy, connect_proxy
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from ehr import FhirStub
from typer.testing import CliRunner

from client.cli import app
from client.intake.fhir.server import FhirServer, http_client
from client.intake.fhir.service import open_server
from client.intake.fhir.setup import make_keys
from client.membership.setup import SiteRequest, create_site
from client.runtime.coordination import ask_status
from client.runtime.doctor import examine
from client.runtime.supernode import supernode_argv
from client.runtime.up import children
from client.settings import SiteFolder, SiteSettings
from common.errors import ConfigError, UnavailableError
from common.files import write_private
from common.platform.keys.certificates import (
    certificate_fingerprint,
    certificate_pem,
    issue_server,
    issue_site,
    new_authority,
)
from common.platform.proxy import read_proxy
from common.platform.sql import open_database, transaction
from server.database import SiteRow, migrate
from server.membership.coordination import Coordination, serve
from server.registry.registry import Registry

HOST = "coordinator.example"
LOGIN = "north:s3cret%2Fword"
NAMES = {HOST: "127.0.0.1", "ehr.example": "127.0.0.1"}
NOW = datetime.now(UTC)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Network:
    """A site, its coordinator and its FHIR server, both behind names that no DNS has."""

    def __init__(self, root: Path) -> None:
        self.ca_key = ec.generate_private_key(ec.SECP256R1())
        self.ca = new_authority(self.ca_key, NOW - timedelta(days=1))
        key = ec.generate_private_key(ec.SECP256R1())
        issued = issue_server(self.ca, self.ca_key, key.public_key(), list(NAMES), NOW)
        self.pair = root / "server.pem"
        self.pair.write_bytes(certificate_pem(issued) + pem(key))
        self.site = SiteFolder(root / "north")
        create_site(self.site.root, SiteRequest("north", HOST, certificate_fingerprint(self.ca)))
        self.site.ca_certificate.parent.mkdir(parents=True, exist_ok=True)
        self.site.ca_certificate.write_bytes(certificate_pem(self.ca))
        own = ec.generate_private_key(ec.SECP256R1())
        self.site.tls_key.unlink()
        write_private(self.site.tls_key, pem(own))
        certificate = certificate_pem(issue_site(self.ca, self.ca_key, own.public_key(), "north", NOW))
        self.site.certificate.write_bytes(certificate)
        self.engine = open_database(f"sqlite:///{root / 'server.db'}")
        migrate(self.engine)

        with transaction(self.engine) as session:
            row = SiteRow(
                name="north",
                state="active",
                node_key="",
                signing_key="",
                certificate=certificate.decode(),
                enrolled=NOW,
            )
            session.add(row)

        service = Coordination(self.engine, lambda: NOW, Registry(root / "models", self.engine, lambda: NOW).deliveries)
        self.server, self.port = serve(
            service, "127.0.0.1:0", certificate=certificate_pem(issued), key=pem(key), ca=certificate_pem(self.ca)
        )
        self.text = self.site.settings_file.read_text().replace('coordination = "', 'unused = "')
        lines = [line for line in self.text.splitlines() if not line.startswith(("unused", "gateway"))]
        self.text = "\n".join(lines)

    def settings(self, proxy: str = "", more: str = "", gateway: int = 1) -> SiteSettings:
        top = f'gateway = "{HOST}:{gateway}"\ncoordination = "{HOST}:{self.port}"\n'
        top += f"proxy = {json.dumps(proxy)}\n" if proxy else ""
        self.site.settings_file.write_text(f"{top}{self.text}\n{more}")
        return self.site.settings()

    def close(self) -> None:
        self.server.stop(None).wait()
        self.engine.dispose()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    made = Network(tmp_path)
    yield made
    made.close()


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    with connect_proxy(NAMES, LOGIN.replace("%2F", "/")) as made:
        yield made


def address(proxy: ConnectProxy) -> str:
    return f"http://{LOGIN}@127.0.0.1:{proxy.port}"


def test_the_coordination_service_is_reached_through_the_proxy_alone(network: Network, proxy: ConnectProxy) -> None:
    network.settings(address(proxy))
    assert ask_status(network.site).version
    assert proxy.asked == {f"{HOST}:{network.port}": 1}
    network.settings()
    with pytest.raises(UnavailableError):
        ask_status(network.site)
    assert proxy.asked.total() == 1


def test_a_proxy_in_the_environment_is_used_only_where_the_site_says_so(
    network: Network, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "http_proxy", "grpc_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, address(proxy))
    network.settings()
    with pytest.raises(UnavailableError):
        ask_status(network.site)
    assert not proxy.asked
    network.settings("env")
    assert ask_status(network.site).version
    assert proxy.asked.total() == 1


def test_what_no_proxy_names_is_dialled_directly(network: Network, proxy: ConnectProxy) -> None:
    network.settings(address(proxy))
    text = network.site.settings_file.read_text()
    network.site.settings_file.write_text(f'no_proxy = ["{HOST}"]\n{text}')
    with pytest.raises(UnavailableError):
        ask_status(network.site)
    assert not proxy.asked


@pytest.fixture
def fhir(network: Network) -> Iterator[FhirStub]:
    stub = FhirStub()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(network.pair)
    server = stub._server
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    stub.origin = f"https://ehr.example:{server.server_port}"
    stub.base = f"{stub.origin}/fhir"
    yield stub
    stub.close()


def test_consents_and_the_sign_in_are_fetched_through_the_proxy(
    network: Network, proxy: ConnectProxy, fhir: FhirStub
) -> None:
    more = f'[fhir]\nserver = "{fhir.base}"\nserver_ca = "federation/ca.crt"\nclient_id = "north"\n'
    network.settings(address(proxy), more)
    make_keys(network.site)
    fhir.write(fhir.consent("c-1", "p-1"))
    fhir.token = "nobody has this"
    with open_server(network.site, lambda _: None) as server:
        pages = [*server.search({})]
    assert [consent["id"] for page in pages for consent in page.consents] == ["c-1"]
    assert len(fhir.tokens_asked) == 1
    assert set(proxy.asked) == {fhir.base.removeprefix("https://").removesuffix("/fhir")}


def test_a_wrong_password_of_the_proxy_is_never_shown(network: Network, fhir: FhirStub) -> None:
    network.settings()
    with connect_proxy(NAMES, "other:login") as strict:
        proxy = read_proxy(address(strict), (), "proxy")
        with http_client(network.site.ca_certificate, proxy=proxy) as http, pytest.raises(UnavailableError) as caught:
            [*FhirServer(http, fhir.base, pause=lambda _: None).search({})]
        network.settings(address(strict))
        found = examine(network.site, NOW)
        assert strict.refused[407] > 1

    told = f"{caught.value}{found}{proxy}{proxy!r}{network.site.settings()!r}"
    assert "s3cret" not in told
    assert "north:" not in told
    port = next(check for check in found if check.name == "coordination port")
    assert port.result == "fail"
    assert "asks for a user and a password" in port.detail
    assert "DNS" not in f"{port.detail}{port.remedy}"


def test_the_supernode_connects_through_the_proxy(network: Network, proxy: ConnectProxy, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as free:
        gateway = listener.getsockname()[1]
        port = free.getsockname()[1]
        free.close()
        settings = network.settings(address(proxy), f"[ports]\nsupernode = {port}\n", gateway)
        (child,) = (child for child in children(network.site, settings) if child.name == "supernode")
        assert child.argv == tuple(supernode_argv(SiteFolder(network.site.root.resolve()), settings))
        log = tmp_path / "supernode.log"
        with log.open("wb") as output:
            process = subprocess.Popen(child.argv, env=dict(child.env or {}), stdout=output, stderr=output)
        try:
            until = time.monotonic() + 60
            while not proxy.asked and process.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait(30)

    assert set(proxy.asked) == {f"{HOST}:{gateway}"}, log.read_text()
    assert "s3cret" not in log.read_text()


def test_no_process_of_a_site_without_a_proxy_sees_one(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "all_proxy", "http_proxy", "grpc_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "http://surprise.example:3128")
    for child in children(network.site, network.settings()):
        values = {name: text for name, text in (child.env or {}).items() if "proxy" in name.lower()}
        assert "surprise" not in str(values)

    for child in children(network.site, network.settings("http://proxy.example:3128")):
        values = {name: text for name, text in (child.env or {}).items() if "proxy" in name.lower()}
        assert ("proxy.example" in str(values)) == (child.name == "supernode")
        assert "surprise" not in str(values)


def test_the_doctor_says_which_proxy_serves_what_and_reaches_the_coordinator_through_it(
    network: Network, proxy: ConnectProxy
) -> None:
    network.settings(address(proxy))
    found = {check.name: check for check in examine(network.site, NOW)}
    assert found["proxy"].detail == f"http://127.0.0.1:{proxy.port} for gateway, coordination"
    assert found["coordination port"].result == "ok"
    assert found["approval"].result == "ok"
    assert (found["gateway port"].result, "cannot reach" in found["gateway port"].detail) == ("fail", True)
    assert "gateway name" not in found
    assert "s3cret" not in str(found)


def test_the_doctor_says_that_a_proxy_of_the_environment_is_not_used(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://u:s3cret@proxy.example:3128")
    network.settings()
    found = {check.name: check for check in examine(network.site, NOW)}
    assert (found["proxy"].result, found["proxy"].detail) == (
        "warn",
        "HTTPS_PROXY set in this environment but not used",
    )
    assert "s3cret" not in str(found)
    monkeypatch.delenv("HTTPS_PROXY")
    network.settings("env")
    assert "HTTPS_PROXY is not set" in {check.name: check for check in examine(network.site, NOW)}["proxy"].detail


@pytest.mark.parametrize(
    "url",
    [
        "proxy.example:3128",
        "https://proxy.example:3128",
        "socks5://proxy.example:1080",
        "http://proxy.example",
        "http://proxy.example:3128/path",
        "http://u:s3cret@proxy.example:99999",
        "http://u:s3cret@:3128",
        "http://u:s3cret word@proxy.example:3128",
        "http://u:s3cret\n@proxy.example:3128",
        "http://[::1:3128",
        "u:s3cret",
    ],
)
def test_what_is_no_proxy_is_refused_without_being_quoted(network: Network, url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_proxy(url, (), "proxy in site.toml")
    assert "s3cret" not in str(caught.value)
    settings = network.settings(url)
    assert "s3cret" not in repr(settings)
    result = CliRunner().invoke(app, ["doctor", "--dir", str(network.site.root), "--json"])
    assert "s3cret" not in result.output
    assert '"proxy"' in result.output


@pytest.mark.parametrize(
    ("pattern", "host", "serves"),
    [
        ("ehr.example", "ehr.example", False),
        ("example", "ehr.example", False),
        (".example", "ehr.example", False),
        (".ehr.example", "ehr.example", False),
        ("hr.example", "ehr.example", True),
        ("EHR.example", "Ehr.Example.", False),
        ("ehr.example:443", "ehr.example", False),
        ("ehr.example:8443", "ehr.example", True),
        ("10.0.0.0/8", "10.1.2.3", False),
        ("10.0.0.0/8", "11.1.2.3", True),
        ("10.0.0.0/8", "ehr.example", True),
        ("10.1.2.3", "10.1.2.3", False),
        ("fd00::/8", "[fd00::1]", False),
        ("[fd00::1]:443", "fd00::1", False),
        ("[fd00::1]:80", "fd00::1", True),
        ("*", "anything.org", False),
        ("", "localhost", False),
        ("", "127.8.8.8", False),
        ("", "::1", False),
        ("", "ehr.example", True),
    ],
)
def test_what_goes_directly(pattern: str, host: str, serves: bool) -> None:
    assert read_proxy("http://proxy.example:3128", (pattern,), "proxy").serves(host, 443) is serves


@pytest.mark.parametrize("pattern", ["http://ehr.example", "a b", "ehr,example", "\x1b[1m"])
def test_a_pattern_that_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="no_proxy"):
        read_proxy("http://proxy.example:3128", (pattern,), "proxy")
