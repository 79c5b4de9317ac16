"""A certificate authority (X.509, RFC 5280) and the kinds of certificate it issues.

The federation has one authority, and each hospital has one for its consent service. There is one level: the authority
signs every certificate itself, with path length 0. The extended key usage states the kind of a certificate. The
authority sets it and no request can choose it: a hospital's certificate never passes as the coordinator's.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import ConfigError, EvidenceError, InputError
from common.evidence.keys import PublicKey

AUTHORITY_LIFETIME = timedelta(days=3652)
SERVER_LIFETIME = timedelta(days=825)
SITE_LIFETIME = timedelta(days=365)
# Certificates start this long before they are made, for machines whose clock is behind.
_SKEW = timedelta(hours=1)

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
SITE = ExtendedKeyUsageOID.CLIENT_AUTH
SIGNER = ExtendedKeyUsageOID.CODE_SIGNING
"""Kinds of certificate: TLS server, TLS client, and the coordinator's signing key."""

RENEW_WITHIN = timedelta(days=30)
"""Before the end of a certificate: when it is renewed."""
_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*", re.ASCII)
_DIGITS = re.compile(r"[0-9a-f]{64}", re.ASCII)
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_Key = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


def new_authority(
    key: ec.EllipticCurvePrivateKey, now: datetime, common: str = "FedForget federation"
) -> x509.Certificate:
    """The authority's own certificate, valid for ten years."""
    name = _name(common)
    return (
        _builder(name, name, key.public_key(), now, now + AUTHORITY_LIFETIME)
        # A path of length 0: nobody below this authority can issue certificates.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def issue_server(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    hosts: Sequence[str],
    now: datetime,
    common: str = "FedForget coordinator",
) -> x509.Certificate:
    """A service's TLS certificate for `hosts` and for loopback, where the SuperLink uses the coordinator's certificate.

    Raises:
        ConfigError: a host is neither a name nor an address.
    """
    names = [_host_name(host) for host in dict.fromkeys((*hosts, "localhost", "127.0.0.1"))]
    return _issue(ca, ca_key, key, common, SERVER, names, now, SERVER_LIFETIME)


def issue_site(
    ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, key: ec.EllipticCurvePublicKey, site: str, now: datetime
) -> x509.Certificate:
    """A hospital's client certificate; its name is the common name."""
    names = [x509.UniformResourceIdentifier(f"urn:fedforget:site:{site}")]
    return _issue(ca, ca_key, key, site, SITE, names, now, SITE_LIFETIME)


def issue_role(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    name: str,
    role: str,
    now: datetime,
) -> x509.Certificate:
    """A certificate for a client of a hospital's consent service: its name is the common name, its role a URI."""
    names = [x509.UniformResourceIdentifier(role_name(role))]
    return _issue(ca, ca_key, key, name, SITE, names, now, SITE_LIFETIME)


def role_name(role: str) -> str:
    """The URI of a role in a certificate."""
    return f"urn:fedforget:role:{role}"


def issue_signer(
    ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, key: PublicKey, now: datetime
) -> x509.Certificate:
    """A certificate that `key` signs for the coordinator: whoever trusts the authority can trust the key."""
    public = load_der_public_key(key.der)
    if not isinstance(public, _Key):
        raise InputError("the signing key is neither Ed25519 nor ECDSA")
    names = [x509.UniformResourceIdentifier("urn:fedforget:coordinator")]

    return _issue(ca, ca_key, public, "FedForget coordinator", SIGNER, names, now, AUTHORITY_LIFETIME)


def check_authority(ca: x509.Certificate, now: datetime) -> None:
    """Raise an `EvidenceError` unless `ca` is a self-signed authority and valid `now`."""
    constraints = _extension(ca, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise EvidenceError("the federation's certificate is not one of an authority")
    _check(ca, ca, now, "the federation's certificate")


def check_issued(
    certificate: x509.Certificate, ca: x509.Certificate, kind: x509.ObjectIdentifier, now: datetime, what: str
) -> None:
    """Raise an `EvidenceError` unless `ca` issued `certificate` as this `kind` and it is valid `now`."""
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    # Exactly one purpose: a certificate for two would pass as either.
    if usage is None or list(usage) != [kind]:
        raise EvidenceError(f"{what} was issued for another purpose")
    _check(certificate, ca, now, what)


def public_key(certificate: x509.Certificate) -> PublicKey:
    """The public key in `certificate`."""
    return PublicKey(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def common_name(holder: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """The common name of a certificate or a request; empty unless there is exactly one."""
    names = holder.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """The certificate in PEM."""
    return certificate.public_bytes(Encoding.PEM)


def read_certificate(pem: bytes, where: str) -> x509.Certificate:
    """Read one certificate in PEM, or raise an `InputError` that names `where`."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise InputError("not a certificate in PEM", where=where, remedy="restore the file") from None


def load_certificate(path: Path) -> x509.Certificate:
    """The certificate in a file, or an `InputError`."""
    try:
        return read_certificate(path.read_bytes(), str(path))
    except OSError as err:
        raise InputError(f"cannot read: {err.strerror}", where=str(path), remedy="restore the file") from None


def certificate_request(key: ec.EllipticCurvePrivateKey, name: str) -> x509.CertificateSigningRequest:
    """A request (PKCS #10, RFC 2986), signed with the key it is for."""
    return x509.CertificateSigningRequestBuilder().subject_name(_name(name)).sign(key, hashes.SHA256())


def certificate_fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER, grouped; what `openssl x509 -fingerprint -sha256` prints with colons."""
    return fingerprint(certificate.public_bytes(Encoding.DER))


def fingerprint(data: bytes) -> str:
    """SHA-256 of `data` in sixteen groups of four digits, to be read out by telephone."""
    return _grouped(hashlib.sha256(data).hexdigest())


def parse_fingerprint(text: str, where: str) -> str:
    """`text` in the form of `fingerprint`, with any separators between its digits, or a `ConfigError`."""
    digits = re.sub(r"[\s:-]", "", text).lower()

    if not _DIGITS.fullmatch(digits):
        raise ConfigError(
            "a fingerprint has 64 hexadecimal digits", where=where, remedy="have it read out again, all of it"
        )

    return _grouped(digits)


def _grouped(digits: str) -> str:
    return "-".join(digits[i : i + 4] for i in range(0, len(digits), 4))


def _issue(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    key: _Key,
    name: str,
    kind: x509.ObjectIdentifier,
    names: Sequence[x509.GeneralName],
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    check_authority(ca, now)
    if ca.public_key() != ca_key.public_key():
        raise InputError("the authority's key is not that of its certificate", remedy="restore both from one backup")
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())

    return (
        # No certificate outlives its authority, with which it could not be verified.
        _builder(_name(name), ca.subject, key, now, min(now + lifetime, ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([kind]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: _Key, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        # The longest name of DNS (RFC 1035, 2.3.4, as text without the final dot).
        if _HOST.fullmatch(host) and len(host) <= 253:
            return x509.DNSName(host)

    raise ConfigError(
        f"{host!r} is neither a name nor an address", where="--host", remedy="give it without a port or a scheme"
    )


def _check(certificate: x509.Certificate, ca: x509.Certificate, now: datetime, what: str) -> None:
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        raise EvidenceError(
            f"{what} was not issued by the federation's authority: take the bundle that `fedforget-server site "
            "approve` wrote for this request, and no other"
        ) from None

    if now > certificate.not_valid_after_utc:
        raise EvidenceError(
            f"{what} expired on {certificate.not_valid_after_utc:%Y-%m-%d}: a hospital renews its own by "
            "`fedforget-site rotate`, the coordinator its own by `fedforget-server rotate`; an authority that expired "
            "is replaced by a new federation, in which the hospitals enrol"
        )

    if now < certificate.not_valid_before_utc:
        raise EvidenceError(f"{what} begins on {certificate.not_valid_before_utc:%Y-%m-%d}: is the clock right?")


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, ValueError):
        return None
