"""Certificates, checked by code that is not ours: cryptography's verifier, OpenSSL's TLS, the openssl command."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from common.errors import ConfigError, EvidenceError, InputError
from common.evidence.keys import SigningKey
from common.platform.keys import certificates
from common.platform.keys.certificates import SERVER, SIGNER, SITE

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Made:
    ca: x509.Certificate
    ca_key: ec.EllipticCurvePrivateKey
    server: x509.Certificate
    server_key: ec.EllipticCurvePrivateKey
    site: x509.Certificate
    site_key: ec.EllipticCurvePrivateKey

    def write(self, folder: Path, which: str) -> tuple[Path, Path]:
        certificate = folder / f"{which}.crt"
        key = folder / f"{which}.key"
        certificate.write_bytes(getattr(self, which).public_bytes(Encoding.PEM))
        private = getattr(self, f"{which}_key")
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

        return certificate, key


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def made(now: datetime = NOW) -> Made:
    ca_key = p256()
    server_key = p256()
    site_key = p256()
    ca = certificates.new_authority(ca_key, now)
    server = certificates.issue_server(ca, ca_key, server_key.public_key(), ["fed.example.org", "192.0.2.7"], now)
    site = certificates.issue_site(ca, ca_key, site_key.public_key(), "north", now)

    return Made(ca, ca_key, server, server_key, site, site_key)


def verifier(federation: Made, now: datetime = NOW) -> PolicyBuilder:
    return PolicyBuilder().store(Store([federation.ca])).time(now)


@pytest.mark.parametrize(
    "name",
    [
        x509.DNSName("fed.example.org"),
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.7")),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ],
)
def test_the_server_is_verified_under_every_name_and_on_loopback(name: x509.DNSName | x509.IPAddress) -> None:
    federation = made()
    assert len(verifier(federation).build_server_verifier(name).verify(federation.server, [])) == 2


def test_the_server_is_refused_under_another_name() -> None:
    federation = made()
    with pytest.raises(VerificationError):
        verifier(federation).build_server_verifier(x509.DNSName("other.example.org")).verify(federation.server, [])


def test_a_site_is_verified_as_a_client_and_never_as_the_server() -> None:
    federation = made()
    verified = verifier(federation).build_client_verifier().verify(federation.site, [])
    assert verified.subjects == [x509.UniformResourceIdentifier("urn:fedforget:site:north")]
    assert certificates.common_name(federation.site) == "north"
    with pytest.raises(VerificationError):
        verifier(federation).build_client_verifier().verify(federation.server, [])


def test_a_site_cannot_issue_certificates() -> None:
    federation = made()
    key = p256()
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "south")]))
        .issuer_name(federation.site.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([SITE]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("south")]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(federation.site_key.public_key()), False)
        .sign(federation.site_key, hashes.SHA256())
    )
    with pytest.raises(EvidenceError, match="not issued by"):
        certificates.check_issued(forged, federation.ca, SITE, NOW, "it")
    with pytest.raises(VerificationError):
        verifier(federation).build_client_verifier().verify(forged, [federation.site])


def test_lifetimes_are_ten_years_825_days_and_a_year() -> None:
    federation = made()
    lifetimes = [c.not_valid_after_utc - NOW for c in (federation.ca, federation.server, federation.site)]
    assert lifetimes == [timedelta(days=days) for days in (3652, 825, 365)]


def test_no_certificate_outlives_its_authority() -> None:
    federation = made()
    late = NOW + timedelta(days=3600)
    site = certificates.issue_site(federation.ca, federation.ca_key, p256().public_key(), "north", late)
    assert site.not_valid_after_utc == federation.ca.not_valid_after_utc

    with pytest.raises(EvidenceError, match="expired"):
        certificates.issue_site(
            federation.ca, federation.ca_key, p256().public_key(), "north", NOW + timedelta(days=3700)
        )


def test_a_key_of_another_authority_issues_nothing() -> None:
    federation = made()
    with pytest.raises(InputError, match="not that of its certificate"):
        certificates.issue_site(federation.ca, p256(), p256().public_key(), "north", NOW)


def test_the_right_certificate_passes_and_each_wrong_one_is_told_apart() -> None:
    federation = made()
    other = made()
    certificates.check_issued(federation.site, federation.ca, SITE, NOW, "it")
    wrong: list[tuple[x509.Certificate, x509.ObjectIdentifier, datetime, str]] = [
        (federation.site, SERVER, NOW, "another purpose"),
        (federation.site, SIGNER, NOW, "another purpose"),
        (federation.ca, SITE, NOW, "another purpose"),
        (other.site, SITE, NOW, "not issued by"),
        (federation.site, SITE, NOW + timedelta(days=366), "expired on 2027-11-24"),
        (federation.site, SITE, NOW - timedelta(hours=2), "is the clock right"),
    ]
    for certificate, kind, now, message in wrong:
        with pytest.raises(EvidenceError, match=message):
            certificates.check_issued(certificate, federation.ca, kind, now, "it")


def test_a_sites_certificate_is_no_authority() -> None:
    federation = made()
    certificates.check_authority(federation.ca, NOW)
    with pytest.raises(EvidenceError, match="not one of an authority"):
        certificates.check_authority(federation.site, NOW)


def test_the_authority_vouches_for_the_coordinators_signing_key() -> None:
    federation = made()
    key = SigningKey.generate()
    signer = certificates.issue_signer(federation.ca, federation.ca_key, key.public, NOW)
    certificates.check_issued(signer, federation.ca, SIGNER, NOW, "it")
    assert certificates.public_key(signer) == key.public


@pytest.mark.parametrize("host", ["https://fed.example.org", "fed.example.org:8443", "", "a b", "-x", "*.example.org"])
def test_a_host_that_is_neither_a_name_nor_an_address_is_refused(host: str) -> None:
    federation = made()
    with pytest.raises(ConfigError, match="neither a name nor an address"):
        certificates.issue_server(federation.ca, federation.ca_key, p256().public_key(), [host], NOW)


def test_a_fingerprint_is_the_one_that_openssl_prints(tmp_path: Path) -> None:
    certificate, _ = (federation := made()).write(tmp_path, "ca")
    command = ["openssl", "x509", "-in", str(certificate), "-noout", "-fingerprint", "-sha256"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split("=")[1]
    found = certificates.certificate_fingerprint(federation.ca)
    assert certificates.parse_fingerprint(printed, "") == certificates.parse_fingerprint(found, "") == found


@pytest.mark.parametrize("text", ["", "ab", "g" * 64, "a" * 63, "a" * 65])
def test_half_a_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        certificates.parse_fingerprint(text, "--ca-fingerprint")


def serve(context: ssl.SSLContext) -> tuple[int, Callable[[], str]]:
    """Take one connection on a free port; the function waits for the name of who came, or for the refusal."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)
    outcome: list[str] = []

    def take() -> None:
        with listener, listener.accept()[0] as raw:
            raw.settimeout(10)
            try:
                with context.wrap_socket(raw, server_side=True) as secure:
                    der = secure.getpeercert(binary_form=True) or b""
                    outcome.append(certificates.common_name(x509.load_der_x509_certificate(der)))
                    secure.sendall(b"welcome")
            except ssl.SSLError as err:
                outcome.append(err.reason)

    thread = threading.Thread(target=take)
    thread.start()

    def wait() -> str:
        thread.join(15)
        return outcome[0]

    return listener.getsockname()[1], wait


def dial(port: int, context: ssl.SSLContext, name: str) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=name) as secure,
    ):
        return secure.recv(16)


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Made, ssl.SSLContext, Path]:
    federation = made(datetime.now(UTC).replace(microsecond=0))
    authority, _ = federation.write(tmp_path, "ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*federation.write(tmp_path, "server"))
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED

    return federation, context, authority


def client(authority: Path, chain: tuple[Path, Path] | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority))
    if chain is not None:
        context.load_cert_chain(*chain)
    return context


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "fed.example.org"])
def test_both_sides_of_a_tls_connection_know_each_other(
    tls: tuple[Made, ssl.SSLContext, Path], tmp_path: Path, name: str
) -> None:
    federation, context, authority = tls
    port, came = serve(context)
    assert dial(port, client(authority, federation.write(tmp_path, "site")), name) == b"welcome"
    assert came() == "north"


def test_a_stranger_gets_no_tls_connection(tls: tuple[Made, ssl.SSLContext, Path], tmp_path: Path) -> None:
    _, context, authority = tls
    (elsewhere := tmp_path / "elsewhere").mkdir()
    other = made(datetime.now(UTC).replace(microsecond=0)).write(elsewhere, "site")

    for chain in (None, other):
        port, came = serve(context)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            dial(port, client(authority, chain), "localhost")
        assert came() in {"PEER_DID_NOT_RETURN_A_CERTIFICATE", "CERTIFICATE_VERIFY_FAILED"}


def test_a_site_refuses_a_server_of_another_federation(tls: tuple[Made, ssl.SSLContext, Path], tmp_path: Path) -> None:
    _, context, _ = tls
    (elsewhere := tmp_path / "elsewhere").mkdir()
    other = made(datetime.now(UTC).replace(microsecond=0))
    authority, _ = other.write(elsewhere, "ca")
    port, came = serve(context)
    with pytest.raises(ssl.SSLCertVerificationError):
        dial(port, client(authority, other.write(elsewhere, "site")), "localhost")
    assert "UNKNOWN_CA" in came()
