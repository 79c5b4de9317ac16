"""Salted commitments: they refer to a document that nobody can guess until its holder opens it."""

from __future__ import annotations

import hmac

from common.errors import EvidenceError

SALT_BYTES = 32


def commitment(document: bytes, salt: bytes) -> str:
    """HMAC-SHA256 of `document` under `salt`, in hexadecimal.

    Hiding: without the salt nobody can try likely documents. Binding: for a salt of fixed length no second pair of
    document and salt is known. Once the salt is erased, the commitment means nothing: this is how a log that cannot
    shrink honours a right to erasure.

    Args:
        document: the bytes to commit to.
        salt: 32 bytes, fresh for every commitment, from the operating system's randomness.
    """
    # HMAC pads a shorter key with zeros: a salt and the same salt with a zero would give one commitment.
    if len(salt) != SALT_BYTES:
        raise EvidenceError(f"the salt has {len(salt)} bytes, {SALT_BYTES} are needed")
    return hmac.digest(salt, document, "sha256").hex()


def check_commitment(document: bytes, salt: bytes, expected: str) -> None:
    """Raise unless `document` and `salt` open the commitment `expected`."""
    if not hmac.compare_digest(commitment(document, salt), expected):
        raise EvidenceError("document and salt do not open the commitment")
