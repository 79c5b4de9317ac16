"""Salted commitments: a document can be pointed at without being guessable, until its holder opens it."""

from __future__ import annotations

import hmac

from common.errors import EvidenceError

SALT_BYTES = 32


def commitment(document: bytes, salt: bytes) -> str:
    """HMAC-SHA256 of `document` under `salt`, in hexadecimal.

    Hiding: who lacks the salt cannot try likely documents. Binding: of a salt of fixed length no second pair is known.
    Erasing the salt makes the commitment mean nothing any more, which is how a log that cannot shrink honours erasure.

    Args:
        document: what is committed to.
        salt: 32 bytes, fresh for every commitment, from the operating system's randomness.
    """
    if len(salt) != SALT_BYTES:
        raise EvidenceError(f"a salt of {len(salt)} bytes, {SALT_BYTES} needed")
    return hmac.digest(salt, document, "sha256").hex()


def check_commitment(document: bytes, salt: bytes, expected: str) -> None:
    """Raise unless `document` and `salt` open the commitment `expected`."""
    if not hmac.compare_digest(commitment(document, salt), expected):
        raise EvidenceError("document and salt do not open the commitment")
