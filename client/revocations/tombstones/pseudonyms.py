"""Patients' identifiers at rest: a pseudonym to look them up, and an encrypted copy that only the site can open."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from base64 import b64decode, b64encode
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.errors import InputError
from common.files import read_private

SECRET_VARIABLE = "FEDFORGET_PSEUDONYMS"  # noqa: S105 - a name
"""Environment variable that may hold the site's secret instead of a file."""
# 96 bits, the length that NIST SP 800-38D recommends for GCM.
_NONCE_BYTES = 12
_LEAST_SECRET_BYTES = 32


class Pseudonyms:
    """Keyed digests (HMAC-SHA-256) and encrypted texts (AES-256-GCM) from one secret of the site."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < _LEAST_SECRET_BYTES:
            raise InputError("the secret for pseudonyms is too short", remedy="restore the file from its backup")
        # One secret, and a separate key for each use (RFC 5869).
        self._name_key, self._seal_key, self._receipt_key = (
            HKDF(SHA256(), 32, salt=None, info=f"fedforget/{use}".encode()).derive(secret)
            for use in ("pseudonym", "identifier", "receipt")
        )
        self.check = hmac.digest(self._receipt_key, b"fedforget/check", hashlib.sha256).hex()[:16]
        """Check value that shows whether something was made with the same secret."""

    @classmethod
    def of_site(cls, path: Path) -> Pseudonyms:
        """Pseudonyms from the secret in the environment variable `FEDFORGET_PSEUDONYMS`, else in `path`.

        Raises:
            InputError: it is missing, too short, or others can read it.
        """
        secret_text = os.environ.get(SECRET_VARIABLE)
        return cls(secret_text.encode() if secret_text else read_private(path))

    @staticmethod
    def has_secret(path: Path) -> bool:
        """Whether there is one, in the environment or in `path`."""
        return bool(os.environ.get(SECRET_VARIABLE)) or path.exists()

    def of(self, patient: str) -> str:
        """The pseudonym of a patient, in hexadecimal."""
        return hmac.digest(self._name_key, patient.encode(), hashlib.sha256).hex()

    def receipt(self, *parts: str) -> str:
        """A short number that reveals nothing about `parts` and is equal for equal ones."""
        # With their lengths, so that ("a", "bc") and ("ab", "c") give different numbers.
        text = b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in parts)
        return hmac.digest(self._receipt_key, text, hashlib.sha256).hex()[:16]

    def seal(self, patient: str, pseudonym: str = "") -> str:
        """The identifier, encrypted and bound to its pseudonym."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        # The pseudonym is authenticated with it: an identifier that is moved to another row cannot be opened.
        ciphertext = AESGCM(self._seal_key).encrypt(nonce, patient.encode(), (pseudonym or self.of(patient)).encode())
        return b64encode(nonce + ciphertext).decode("ascii")

    def unseal(self, pseudonym: str, sealed: str) -> str:
        """Decrypt an identifier.

        Raises:
            InputError: it was encrypted with another secret, for another pseudonym, or is damaged.
        """
        try:
            content = b64decode(sealed, validate=True)
            plaintext = AESGCM(self._seal_key).decrypt(
                content[:_NONCE_BYTES], content[_NONCE_BYTES:], pseudonym.encode()
            )
        except (ValueError, InvalidTag):
            raise InputError(
                "this site's secret cannot decrypt an identifier", remedy="restore the secret from its backup"
            ) from None

        return plaintext.decode()
