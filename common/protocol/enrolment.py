"""The two documents of an enrolment: a hospital's request, and the bundle to join with. Both are DSSE envelopes."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from common.errors import EvidenceError, InputError
from common.evidence import dsse
from common.evidence.keys import PinnedKeys, PublicKey, SigningKey
from common.evidence.schema import decode, encode
from common.platform.keys.certificates import common_name

REQUEST_TYPE = "application/vnd.fedforget.enrolment+json"
JOIN_TYPE = "application/vnd.fedforget.join+json"
_NODE_TYPE = "application/vnd.fedforget.node-key"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """A hospital's public keys; `replaces` is the old signing key in a rotation, which signs the request too."""

    name: str
    certificate_request: str
    node_key: str
    node_proof: str
    signing_key: str
    replaces: str | None
    software: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise EvidenceError("the name of a site has small letters, digits and hyphens, at most 64")


@dataclass(frozen=True, slots=True)
class JoinBundle:
    """What an approved hospital needs to join; the authority vouches for the key that signs it.

    `experiment` is the JSON of the federation's model, data settings and classes; `node` is Flower's id, if known.
    """

    site: str
    authority: str
    certificate: str
    coordinator: str
    gateway: str
    coordination: str
    experiment: str
    node: str | None


@dataclass(frozen=True, slots=True)
class SiteKeys:
    """A hospital's private keys, while it makes a request."""

    tls: ec.EllipticCurvePrivateKey
    node: ec.EllipticCurvePrivateKey
    signing: SigningKey


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request whose sender holds every key in it; `signers` are the fingerprints of its signatures."""

    request: EnrolmentRequest
    certificate_key: ec.EllipticCurvePublicKey
    signing_key: PublicKey
    signers: frozenset[str]


def make_request(
    name: str,
    keys: SiteKeys,
    certificate_request: x509.CertificateSigningRequest,
    software: str,
    old: SigningKey | None,
) -> bytes:
    """The request's file, signed with the new signing key and, in a rotation, with the `old` one too."""
    # Binds the node key to the name and the signing key: nobody can enrol another hospital's node key.
    proof = keys.node.sign(_node_statement(name, keys.signing.public), ec.ECDSA(hashes.SHA384()))
    request = EnrolmentRequest(
        name=name,
        certificate_request=certificate_request.public_bytes(Encoding.PEM).decode(),
        node_key=keys.node.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
        node_proof=base64.b64encode(proof).decode(),
        signing_key=keys.signing.public.pem.decode(),
        replaces=old.public.pem.decode() if old else None,
        software=software,
    )
    signers = (keys.signing, old) if old else (keys.signing,)

    return dsse.encode_envelope(dsse.sign(REQUEST_TYPE, encode(request), *signers))


def check_request(data: bytes) -> CheckedRequest:
    """Read a request and check that its sender holds all its keys; their name is not verified yet.

    Raises:
        EvidenceError: damaged, changed after signing, or the sender does not hold a key.
    """
    envelope = dsse.decode_envelope(data)
    request = decode(EnrolmentRequest, envelope.body)
    signing = _public_key(request.signing_key)
    keys = [signing] if request.replaces is None else [signing, _public_key(request.replaces)]
    pins = {key.keyid: (key.keyid, key) for key in keys}
    # In a rotation both keys must sign: the old one proves who asks, the new one that it is held.
    dsse.verify(envelope, REQUEST_TYPE, PinnedKeys.of(pins.values()), dict.fromkeys(pins, 1))
    _check_node_key(request, signing)

    return CheckedRequest(request, _certificate_key(request), signing, frozenset(pins))


def _public_key(pem: str) -> PublicKey:
    try:
        return PublicKey.from_pem(pem.encode())
    except InputError as err:
        raise EvidenceError(f"a signing key in the request: {err}") from None


def _certificate_key(request: EnrolmentRequest) -> ec.EllipticCurvePublicKey:
    try:
        csr = x509.load_pem_x509_csr(request.certificate_request.encode())
        valid = csr.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        raise EvidenceError("the request's certificate request cannot be read") from None

    key = csr.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise EvidenceError("the request's TLS key is not on P-256")
    if not valid or common_name(csr) != request.name:
        raise EvidenceError("the request's certificate request is not signed with its key, or names another site")
    return key


def _check_node_key(request: EnrolmentRequest, signing: PublicKey) -> None:
    try:
        key = load_ssh_public_key(request.node_key.encode())
        proof = base64.b64decode(request.node_proof, validate=True)
    except (ValueError, UnsupportedAlgorithm, binascii.Error):
        raise EvidenceError("the request's node key cannot be read") from None

    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise EvidenceError("the request's node key is not on P-384")
    # One key must have one text.
    if key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() != request.node_key:
        raise EvidenceError("the request's node key is in an unusual form")
    try:
        key.verify(proof, _node_statement(request.name, signing), ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise EvidenceError("the sender does not hold the node key in the request") from None


def _node_statement(name: str, signing: PublicKey) -> bytes:
    return dsse.pae(_NODE_TYPE, f"{name} {signing.keyid}".encode())
