"""Keys and secrets of both sides: made where they are used; only their owner can read the private ones."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from common.errors import InputError
from common.evidence.keys import PublicKey, SigningKey
from common.files import read_private, write_bytes, write_private

CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Variable naming the folder of systemd's `LoadCredential=`; a passphrase there need not be in our folder."""


def new_secret(path: Path) -> bytes:
    """Write 256 random bits as text to a new private file."""
    secret = secrets.token_hex(32).encode()
    write_private(path, secret)
    return secret


def read_passphrase(path: Path) -> bytes:
    """The passphrase from the service manager's credential of the same name, else from `path`."""
    folder = os.environ.get(CREDENTIALS)
    credential = Path(folder) / path.name if folder else path
    if not folder or not credential.exists():
        return read_private(path).rstrip(b"\n")
    try:
        # systemd protects the folder itself; its ACL for the service may show as group bits, so do not check the mode.
        return credential.read_bytes().rstrip(b"\n")
    except OSError as err:
        raise InputError(f"cannot read: {err.strerror}", where=str(credential), remedy="check its owner") from None


def read_public_key(path: Path, remedy: str) -> PublicKey:
    """The public key (PEM) in a file.

    Raises:
        InputError: it cannot be read, or is not a public key; with `remedy`.
    """
    try:
        return PublicKey.from_pem(path.read_bytes())
    except OSError as err:
        raise InputError(f"cannot read: {err.strerror}", where=str(path), remedy=remedy) from None
    except InputError as err:
        raise InputError(err.problem, where=str(path), remedy=err.remedy or remedy) from None


def load_signing_key(path: Path, passphrase: Path) -> SigningKey:
    """The signing key in `path`.

    Raises:
        InputError: a file is missing, others can read it, or the passphrase does not open the key.
    """
    return SigningKey.from_pem(read_private(path), read_passphrase(passphrase))


def new_tls_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Write a new unencrypted P-256 key: the servers that read it accept no passphrase."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


def new_authority_key(path: Path, passphrase: bytes) -> ec.EllipticCurvePrivateKey:
    """Write a new P-256 key, encrypted."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase)))
    return key


def new_node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Write a new P-384 key in OpenSSH format, as Flower's SuperNode expects, and its public half beside it."""
    key = ec.generate_private_key(ec.SECP384R1())
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    write_bytes(path.with_name(f"{path.name}.pub"), public + b"\n")

    return key


def load_ec_key(path: Path, passphrase: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """An elliptic-curve key in PEM.

    Raises:
        InputError: missing, readable by others, of another kind, or it does not open.
    """
    try:
        key = load_pem_private_key(read_private(path), passphrase)
    except (ValueError, TypeError):
        raise InputError("a private key that does not open", where=str(path), remedy="restore the file") from None

    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError("not an elliptic-curve key", where=str(path), remedy="restore the file")
    return key
