"""Signing keys, Ed25519 (RFC 8032) and ECDSA on P-256 with SHA-256 (FIPS 186-5), and sets of pinned public keys."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from common.errors import EvidenceError, InputError
from common.evidence.ed25519_points import is_sound_point

Algorithm = Literal["ed25519", "ecdsa-p256"]

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ECDSA = ec.ECDSA(hashes.SHA256())
_HEAD = b"-----BEGIN PUBLIC KEY-----"
_FOOT = b"-----END PUBLIC KEY-----"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key as the DER of its SubjectPublicKeyInfo (RFC 5280, 4.1.2.7)."""

    der: bytes

    def __post_init__(self) -> None:
        """Refuse other algorithms, and a second encoding of the same key, which would give it a second `keyid`."""
        try:
            key = load_der_public_key(self.der)
        except (ValueError, UnsupportedAlgorithm):
            raise InputError(
                "not a public key", remedy="give the PEM file that `openssl pkey -pubout` writes"
            ) from None

        curve = key.curve if isinstance(key, ec.EllipticCurvePublicKey) else None
        if not isinstance(key, Ed25519PublicKey) and not isinstance(curve, ec.SECP256R1):
            raise InputError("the public key is neither Ed25519 nor ECDSA P-256")
        if isinstance(key, Ed25519PublicKey) and not is_sound_point(key.public_bytes_raw()):
            raise InputError(
                "an Ed25519 key of small order or in a second encoding, with which anybody could sign",
                remedy="ask its holder how it was generated, and for a new key",
            )

        if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != self.der:
            raise InputError(
                "a public key in an unusual encoding, such as a compressed point",
                remedy="write it again with `openssl pkey -pubin -ec_conv_form uncompressed`",
            )

    @classmethod
    def from_pem(cls, pem: bytes) -> PublicKey:
        """Read one PEM block, or raise an `InputError`."""
        # Line breaks of any kind become one space, as between the words of the headings.
        lines = pem.split()
        text = b" ".join(lines)

        if not text.startswith(_HEAD) or not text.endswith(_FOOT):
            raise InputError(
                "not a public key in PEM", remedy="give the file that `openssl pkey -pubout` writes, and nothing else"
            )

        try:
            der = base64.b64decode(text[len(_HEAD) : -len(_FOOT)].replace(b" ", b""), validate=True)
        except binascii.Error:
            raise InputError("the base64 of the public key is damaged") from None

        return cls(der)

    @property
    def pem(self) -> bytes:
        """The key in PEM."""
        return load_der_public_key(self.der).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def keyid(self) -> str:
        """Fingerprint: SHA-256 of the DER, in hexadecimal."""
        return hashlib.sha256(self.der).hexdigest()

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise an `EvidenceError` unless `signature` is this key's signature of `message`."""
        key = load_der_public_key(self.der)

        try:
            if isinstance(key, Ed25519PublicKey):
                key.verify(signature, message)
                return

            if isinstance(key, ec.EllipticCurvePublicKey):
                # s and order - s both verify: only the low one is accepted, or anyone could make a second signature.
                if decode_dss_signature(signature)[1] > P256_ORDER // 2:
                    raise EvidenceError(f"the signature of key {self.keyid} is not in its canonical form (low s)")
                key.verify(signature, message, _ECDSA)
                return
        except (InvalidSignature, ValueError):
            pass

        raise EvidenceError(f"the signature of key {self.keyid} does not fit the signed content")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key; its `repr` never shows it."""

    _key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.public.keyid})"

    @classmethod
    def generate(cls, algorithm: Algorithm = "ed25519") -> SigningKey:
        """A new key from the operating system's randomness; a seeded key would not be secret."""
        return cls(Ed25519PrivateKey.generate() if algorithm == "ed25519" else ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes, passphrase: bytes) -> SigningKey:
        """Read a PEM file encrypted with `passphrase`, or raise an `InputError`; refuse an unencrypted key."""
        try:
            key = load_pem_private_key(pem, passphrase)
        except TypeError:
            raise InputError(
                "the signing key is not encrypted", remedy="encrypt it with `openssl pkey -aes256`"
            ) from None
        except (ValueError, UnsupportedAlgorithm):
            raise InputError("the signing key does not open", remedy="check the passphrase and the file") from None

        if isinstance(key, Ed25519PrivateKey):
            return cls(key)
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            return cls(key)
        raise InputError("the signing key is neither Ed25519 nor ECDSA P-256")

    def to_pem(self, passphrase: bytes) -> bytes:
        """The key as PKCS #8 in PEM, encrypted with `passphrase`."""
        if not passphrase:
            raise InputError("the passphrase is empty", remedy="signing keys are stored encrypted; choose a passphrase")
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))

    @property
    def public(self) -> PublicKey:
        """Its public key."""
        return PublicKey(self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def sign(self, message: bytes) -> bytes:
        """Signature of `message`: 64 bytes for Ed25519, DER with the low s for ECDSA."""
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(message)
        # The library returns either of s and n - s; `verify` accepts only the low one.
        r, s = decode_dss_signature(self._key.sign(message, _ECDSA))
        return encode_dss_signature(r, min(s, P256_ORDER - s))


@dataclass(frozen=True, slots=True)
class PinnedKeys:
    """Public keys that the verifier trusts, each with its holder's name; never taken from the verified files."""

    entries: tuple[tuple[str, PublicKey], ...]

    def __post_init__(self) -> None:
        """One key must not speak for two parties."""
        ids = [key.keyid for _, key in self.entries]
        if len(set(ids)) != len(ids):
            raise InputError("one public key is pinned twice", remedy="give each key once, under one name")

    @classmethod
    def of(cls, entries: Iterable[tuple[str, PublicKey]]) -> PinnedKeys:
        """Pin `entries`, pairs of a name (`site`, `server`, ...) and a key; a name may hold several keys."""
        return cls(tuple(entries))

    def find(self, keyid: str) -> tuple[str, PublicKey] | None:
        """Name and key for a fingerprint; None if it is not pinned."""
        return next(((name, key) for name, key in self.entries if key.keyid == keyid), None)
