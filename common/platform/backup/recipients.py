"""Keys of a backup: who it is encrypted to, and who opens it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyrage

from common.errors import InputError
from common.files import read_private


def read_recipients(texts: Iterable[str]) -> list[pyrage.x25519.Recipient]:
    """Public keys `age1...`.

    Raises:
        InputError: there is none, or one is not a key.
    """
    keys = []
    for text in texts:
        try:
            keys.append(pyrage.x25519.Recipient.from_str(text.strip()))
        except pyrage.RecipientError:
            raise InputError("not a public key", where="--recipient", remedy="give `age1...` of `backup-key`") from None
    if not keys:
        raise InputError("no public key", where="--recipient", remedy="create one on another machine: backup-key FILE")

    return keys


def read_identity(path: Path) -> pyrage.x25519.Identity:
    """The private key in a file of `backup-key` or `age-keygen`.

    Raises:
        InputError: it is missing, readable by others, or holds no key.
    """
    lines = read_private(path).decode("ascii", "replace").splitlines()
    secret = next((line.strip() for line in lines if line.startswith("AGE-SECRET-KEY-")), "")
    try:
        return pyrage.x25519.Identity.from_str(secret)
    except pyrage.IdentityError:
        raise InputError("not a private key of age", where=str(path), remedy="give the file of `backup-key`") from None
