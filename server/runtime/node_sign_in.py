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
    load_pem_public_key,
)
from starlette.datastructures import Headers

KEY = "flwr-public-key"
TIME = "flwr-timestamp"
SIGNATURE = "flwr-signature"
"""Headers of flwr 1.41; a test compares them with Flower's own."""
TOLERANCE = timedelta(seconds=305)
"""Flower's own: a request that passes SuperLink passes here."""
_REFRESH_SECONDS = 0.5
_MOST_AGE = 30.0
"""At least and at most between two looks at the register."""


class NodeSignIn:
    """Knows the registered nodes' keys; asks for them again when it meets an unknown one, and every half a minute.

    Args:
        keys: the registered nodes' public keys, in PEM as Flower writes them.
        now: the time.
    """

    def __init__(self, keys: Callable[[], frozenset[bytes]], now: Callable[[], datetime] = lambda: datetime.now(UTC)):
        self._read = keys
        self._now = now
        self._keys: frozenset[bytes] = frozenset()
        self._asked = float("-inf")
        self._asking = asyncio.Lock()

    async def allows(self, headers: Headers) -> bool:
        """Whether the headers are signed by a registered node just now.

        Raises:
            FedForgetError: the keys cannot be read.
        """
        try:
            key, signature = (b64decode(headers[name], validate=True) for name in (KEY, SIGNATURE))
            signed_at = datetime.fromisoformat(headers[TIME])
            # A request that somebody recorded is of no use after five minutes.
            if signed_at.tzinfo is None or abs(self._now() - signed_at) > TOLERANCE:
                return False
            message = headers[TIME].encode("ascii")
        except (KeyError, ValueError, OverflowError, binascii.Error):
            return False

        return await self._is_registered(key) and _is_signed(key, message, signature)

    async def _is_registered(self, key: bytes) -> bool:
        if self._is_due(key):
            async with self._asking:
                # Asked again inside: while this request waited for the lock, another one may have read the keys.
                if self._is_due(key):
                    self._asked = time.monotonic()
                    # In a thread: SQLite may wait for SuperLink, and every other request with it.
                    self._keys = await asyncio.to_thread(self._read)

        return key in self._keys

    def _is_due(self, key: bytes) -> bool:
        # Unknown keys cause a look twice a second at most: strangers must not keep the database busy.
        return time.monotonic() - self._asked >= (_MOST_AGE if key in self._keys else _REFRESH_SECONDS)


def _is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        public = load_pem_public_key(key)
        if not isinstance(public, ec.EllipticCurvePublicKey):
            return False
        public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature):
        return False

    return True
