"""Flower's sign-in of SuperNodes, checked by the gateway before it reads a body.

SuperLink parses a whole request before it looks at the signature. The signature is over the time alone
(`flwr.superlink.routers.fleet.node_auth`), so it can be checked from the headers; SuperLink checks it again, and whose
node it is.
"""

from __future__ import annotations

import asyncio
import binascii
import time
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
    load_ssh_public_key,
)
from starlette.datastructures import Headers

from common.errors import FedForgetError

KEY, TIME, SIGNATURE = "flwr-public-key", "flwr-timestamp", "flwr-signature"
"""Headers of flwr 1.41; a test compares them with Flower's own."""
TOLERANCE = timedelta(seconds=305)
"""Flower's own: a request that passes SuperLink passes here."""
_REFRESH_SECONDS = 2.0


class NodeSignIn:
    """Knows the enrolled nodes' keys; asks for them again, at most every two seconds, when it meets an unknown one.

    Args:
        keys: the enrolled nodes' public keys, in the form of `node_key_bytes`.
        now: the time.
    """

    def __init__(self, keys: Callable[[], frozenset[bytes]], now: Callable[[], datetime] = lambda: datetime.now(UTC)):
        self._read, self._now = keys, now
        self._keys: frozenset[bytes] = frozenset()
        self._asked = float("-inf")
        self._asking = asyncio.Lock()

    async def allows(self, headers: Headers) -> bool:
        """Whether the headers are signed by an enrolled node just now.

        Raises:
            FedForgetError: the keys cannot be read.
        """
        try:
            key, signature = (b64decode(headers[name], validate=True) for name in (KEY, SIGNATURE))
            signed_at = datetime.fromisoformat(headers[TIME])
            if signed_at.tzinfo is None or abs(self._now() - signed_at) > TOLERANCE:
                return False
            message = headers[TIME].encode("ascii")
        except (KeyError, ValueError, OverflowError, binascii.Error):
            return False
        return await self._is_enrolled(key) and _is_signed(key, message, signature)

    async def _is_enrolled(self, key: bytes) -> bool:
        if key not in self._keys:
            async with self._asking:
                if key not in self._keys and time.monotonic() - self._asked >= _REFRESH_SECONDS:
                    self._asked = time.monotonic()
                    self._keys = await asyncio.to_thread(self._read)
        return key in self._keys


def _is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        public = load_pem_public_key(key)
        if not isinstance(public, ec.EllipticCurvePublicKey):
            return False
        public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature):
        return False
    return True


def node_key_bytes(openssh: str) -> bytes:
    """An enrolled node's key (one line of OpenSSH) as Flower writes it into the header."""
    key = load_ssh_public_key(openssh.encode())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise FedForgetError("an enrolled node's key is not on an elliptic curve")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
