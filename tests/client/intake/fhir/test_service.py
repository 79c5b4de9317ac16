"""Who may come in at all, and the commands against a FHIR server."""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from client.cli import app
from client.intake.fhir.service import run as serve
from client.intake.fhir.setup import make_keys
from client.membership.setup import SiteRequest, create_site
from client.runtime.up import children
from client.settings import SiteFolder
from common.errors import InputError


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    create_site(tmp_path / "north", SiteRequest("north", "localhost", "ab" * 32))
    folder = SiteFolder(tmp_path / "north")
    subsets = {f"p-{n}": "train" for n in range(3)}
    (folder.root / "site.json").write_text(json.dumps({"name": "north", "subsets": subsets}))

    return folder


def configure(site: SiteFolder, settings: str) -> None:
    with site.settings_file.open("a") as file:
        file.write(settings)


def command(site: SiteFolder, *arguments: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, ["fhir", *arguments, "--dir", str(site.root), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else done.stderr


def test_the_commands_set_up_pull_reconcile_and_say_how_it_stands(site: SiteFolder, ehr: Any) -> None:
    configure(site, f'\n[fhir]\nserver = "{ehr.base}"\nclient_id = "north"\noverlap_seconds = 1\n')
    assert "fhir init" in command(site, "status", code=2)
    assert command(site, "init")["made"] == ["fhir/token", "fhir/smart.pem"]
    key = site.fhir_key.read_bytes()
    jwks = site.fhir_jwks.read_bytes()
    assert command(site, "init")["made"] == []
    assert (site.fhir_key.read_bytes(), site.fhir_jwks.read_bytes()) == (key, jwks)
    assert b"ENCRYPTED" in key
    ehr.write(ehr.consent("c-1", "p-1", "inactive"))
    ehr.write(ehr.consent("c-2", "p-2", "entered-in-error"))
    ehr.write(ehr.consent("c-3", "of-another-department", "entered-in-error"))
    assert command(site, "pull") == {"read": 3, "new": 3, "unusable": 0, "revoked": 1}
    assert len(ehr.tokens_asked) == 1
    found = command(site, "reconcile")
    assert (found["missed"], found["gone"]) == (0, 0)
    status = command(site, "status")
    assert (status["versions"], status["deny"], status["unknown"], status["revoked"]) == (3, 1, 2, 1)
    assert [status[f"withdrawn_{name}"] for name in ("known", "unknown", "doubtful")] == [1, 0, 0]
    assert [item["consent"] for item in status["steward"]] == ["c-2"]
    assert "p-1" not in json.dumps(status)
    ehr.faults = [403]
    assert "refuses this client" in command(site, "pull", code=4)
    site.pseudonym_secret.unlink()
    assert "restore it from its backup" in command(site, "init", code=2)
    assert not site.pseudonym_secret.exists()


def test_the_process_is_one_of_up_only_where_it_is_enabled(site: SiteFolder) -> None:
    def names() -> list[str]:
        return [child.name for child in children(site, site.settings())]

    assert {"fhir", "inbox"}.isdisjoint(names())
    configure(site, '\n[fhir]\nenabled = true\n[inbox]\nenabled = true\nkeys = ["a.pem"]\n')
    assert names()[-2:] == ["fhir", "inbox"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('token_file = ""', "anybody could send consents"),
        ('host = "0.0.0.0"', "without TLS"),
        ('client_ca = "ca.pem"', "both certificate and key"),
        ('token_file = "short"', "too short"),
        ('server = "http://ehr.hospital.example/fhir"', "not an https address"),
        ('policy_code = "1"', "both policy_system and policy_code"),
    ],
)
def test_what_would_leave_a_door_open_does_not_start(site: SiteFolder, settings: str, message: str) -> None:
    make_keys(site)
    short = site.root / "short"
    short.write_text("1234")
    short.chmod(0o600)
    configure(site, f"\n[fhir]\nenabled = true\n{settings}\n")
    with pytest.raises(InputError, match=message):
        serve(site)


def certificate(
    name: str, signer: Any = None, lasts: timedelta = timedelta(days=1)
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A key and its certificate for loopback, its own authority without a signer."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signing_key, issuer = (signer[0], signer[1].subject) if signer else (key, subject)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + lasts)
    builder = builder.add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)

    return key, builder.add_extension(names, critical=False).sign(signing_key, hashes.SHA256())


def pem(path: Path, found: tuple[ec.EllipticCurvePrivateKey, x509.Certificate]) -> tuple[str, str]:
    """Files of a certificate and of its key."""
    key = found[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for suffix, content in ((".crt", found[1].public_bytes(Encoding.PEM)), (".key", key)):
        path.with_suffix(suffix).write_bytes(content)
        path.with_suffix(suffix).chmod(0o600)

    return str(path.with_suffix(".crt")), str(path.with_suffix(".key"))


def test_with_mutual_tls_only_certificates_of_the_authority_come_in(
    start_hospital: Callable[..., Any], tmp_path: Path, running_stub: Any
) -> None:
    authority = certificate("authority")
    foreign = certificate("foreign")
    ca, _ = pem(tmp_path / "ca", authority)
    own, key = pem(tmp_path / "endpoint", certificate("endpoint", authority))
    client = pem(tmp_path / "client", certificate("ehr", authority))
    stranger = pem(tmp_path / "stranger", certificate("ehr", foreign))
    settings = f'certificate = "{own}"\nkey = "{key}"\nclient_ca = "{ca}"\ntoken_file = ""\n'

    def context(pair: tuple[str, str] | None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=ca)
        if pair:
            made.load_cert_chain(*pair)
        return made

    hospital = start_hospital(settings, scheme="https", verify=context(client))
    assert hospital.put(running_stub.consent("c-1", "p-1", "inactive")).status_code == 200
    assert hospital.revoked() == {"p-1"}

    for pair in (None, stranger):
        with (
            httpx.Client(verify=context(pair), trust_env=False) as http,
            pytest.raises(httpx.HTTPError),
        ):
            http.get(f"{hospital.http.base_url}metadata")


def ask_for(seconds: float, ask: Callable[[], object]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ask()


def test_tls_that_is_not_finished_or_whose_certificate_has_expired_is_hung_up_on(
    start_hospital: Callable[..., Any], tmp_path: Path
) -> None:
    authority = certificate("authority")
    ca, _ = pem(tmp_path / "ca", authority)
    own, key = pem(tmp_path / "endpoint", certificate("endpoint", authority))
    trust = ssl.create_default_context(cafile=ca)
    settings = f'certificate = "{own}"\nkey = "{key}"\nclient_ca = "{ca}"\ntoken_file = ""\n'
    hospital = start_hospital(settings, scheme="https")
    # Made last: it is good for some seconds only.
    trust.load_cert_chain(*pem(tmp_path / "client", certificate("ehr", authority, timedelta(seconds=6))))

    with (
        socket.create_connection(("127.0.0.1", hospital.port), timeout=40) as silent,
        httpx.Client(verify=trust, trust_env=False, base_url=hospital.http.base_url) as http,
    ):
        assert http.get("/metadata").status_code == 200
        with pytest.raises(httpx.HTTPError):
            ask_for(30, lambda: http.get("/metadata"))
        assert silent.recv(1) == b""
