"""Refuse Ed25519 public keys that no honest key generation produces (RFC 8032, 5.1.3 and 8.4).

With a key of small order one signature verifies for almost every message, so pinning it protects nothing. A second
encoding of a point would give the same key a second fingerprint. Libraries check neither when they load a key.
"""

from __future__ import annotations

PRIME = 2**255 - 19
_D = -121665 * pow(121666, -1, PRIME) % PRIME
_SIGN = 1 << 255
_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
# The y coordinates of all eight points whose order divides the cofactor 8.
_SMALL_ORDER = frozenset({0, 1, PRIME - 1, _ORDER_8, PRIME - _ORDER_8})


def is_sound_point(encoded: bytes) -> bool:
    """Whether 32 bytes are the one encoding of a point on the curve whose order is not small."""
    number = int.from_bytes(encoded, "little")
    y = number & ~_SIGN
    # y >= p is a second encoding of y - p (RFC 8032, 5.1.3).
    if len(encoded) != 32 or y >= PRIME or y in _SMALL_ORDER:
        return False
    # x is the root of u / v: it exists where that is a square (Euler's criterion).
    u = (y * y - 1) % PRIME
    v = (_D * y * y + 1) % PRIME

    return pow(u * pow(v, -1, PRIME) % PRIME, (PRIME - 1) // 2, PRIME) == 1
