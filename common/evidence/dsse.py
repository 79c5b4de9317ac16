"""DSSE envelopes (https://github.com/secure-systems-lab/dsse, protocol 1.0.2): exact bytes with several signatures.

Stricter than the protocol, so that evidence has one encoding: the envelope is canonical JSON, base64 uses the standard
alphabet with padding, `keyid` is mandatory and is the key's fingerprint, and signatures are sorted by it.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import EvidenceError
from common.evidence.keys import PinnedKeys, SigningKey
from common.evidence.schema import check_digest, check_sorted, check_text, decode, encode


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature; `sig` is base64."""

    keyid: str
    sig: str

    def __post_init__(self) -> None:
        check_digest(self.keyid, "keyid")
        _unbase64(self.sig, "sig")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload in base64, its type, and its signatures."""

    payload: str
    payload_type: str
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        check_text(self.payload_type, "payloadType")
        _unbase64(self.payload, "payload")
        check_sorted(tuple(signature.keyid for signature in self.signatures), "signatures")
        if not self.signatures:
            raise EvidenceError("the envelope has no signature")

    @property
    def body(self) -> bytes:
        """The payload's bytes."""
        return _unbase64(self.payload, "payload")


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding, the bytes that are signed (DSSE protocol, "Signature definition")."""
    kind = payload_type.encode()
    # Lengths in front: no shift of the border between type and payload gives the same bytes.
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign(payload_type: str, payload: bytes, *keys: SigningKey) -> Envelope:
    """Sign `payload` with each of `keys`."""
    message = pae(payload_type, payload)
    signatures = [Signature(key.public.keyid, _base64(key.sign(message))) for key in keys]
    return Envelope(_base64(payload), payload_type, tuple(sorted(signatures, key=lambda s: s.keyid)))


def add_signature(envelope: Envelope, key: SigningKey) -> Envelope:
    """Sign the same payload with a further key; refuse a key that has already signed."""
    (signature,) = sign(envelope.payload_type, envelope.body, key).signatures
    signatures = sorted((*envelope.signatures, signature), key=lambda s: s.keyid)
    return Envelope(envelope.payload, envelope.payload_type, tuple(signatures))


def encode_envelope(envelope: Envelope) -> bytes:
    """The envelope's file."""
    return encode(envelope)


def decode_envelope(data: bytes) -> Envelope:
    """Read an envelope's file, or raise an `EvidenceError`. Nothing is verified yet."""
    return decode(Envelope, data)


def verify(envelope: Envelope, payload_type: str, pinned: PinnedKeys, required: Mapping[str, int]) -> tuple[str, ...]:
    """Check every signature and return the names of the signers, sorted, once for each of their keys.

    Args:
        envelope: a decoded envelope.
        payload_type: the only type accepted.
        pinned: keys obtained from elsewhere.
        required: minimum number of keys that must have signed, by name: `{"site": 1, "server": 1}`.

    Raises:
        EvidenceError: the type differs, a signature does not hold or its key is not pinned (no unchecked byte may
            pass), or there are too few signers.
    """
    if envelope.payload_type != payload_type:
        raise EvidenceError(f"payload type is {envelope.payload_type!r}, expected {payload_type!r}")
    message = pae(payload_type, envelope.body)
    names = []

    for signature in envelope.signatures:
        entry = pinned.find(signature.keyid)
        # Not skipped: a signature that nobody checks would still look like one to a reader of the file.
        if entry is None:
            raise EvidenceError(f"signed by key {signature.keyid}, which is not among the pinned keys")
        name, key = entry
        key.verify(_unbase64(signature.sig, "sig"), message)
        names.append(name)

    # Each key signs once, as `keyid`s are sorted and distinct: the count is one of keys.
    counts = Counter(names)
    for name, least in required.items():
        if counts[name] < least:
            raise EvidenceError(f"signed by {counts[name]} key(s) of {name!r}, {least} needed")

    return tuple(sorted(names))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unbase64(text: str, name: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise EvidenceError(f"{name} is not base64") from None

    # Python ignores the unused bits of the last character, so several texts decode to the same bytes.
    if _base64(data) != text:
        raise EvidenceError(f"{name} is not the canonical base64 of its bytes")
    return data
