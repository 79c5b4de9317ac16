import base64
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.errors import InputError
from common.evidence.ed25519_points import PRIME, is_sound_point
from common.evidence.keys import PublicKey, SigningKey

PREFIX = bytes.fromhex("302a300506032b6570032100")
"""DER of an Ed25519 SubjectPublicKeyInfo, up to the point (RFC 8410)."""
SMALL = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]
SECOND_ENCODINGS = [
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("point", [*SMALL, *SECOND_ENCODINGS])
def test_a_key_by_which_anybody_could_sign_is_refused_however_it_is_read(point: str) -> None:
    der = PREFIX + bytes.fromhex(point)
    pem = b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(der) + b"\n-----END PUBLIC KEY-----\n"
    readings: tuple[Callable[[], object], ...] = (lambda: PublicKey(der), lambda: PublicKey.from_pem(pem))
    for read in readings:
        with pytest.raises(InputError, match="Ed25519 key of small order or in a second encoding"):
            read()


def test_bytes_that_are_no_point_of_the_curve_are_refused() -> None:
    off_curve = next(y for y in range(2, 100) if not is_sound_point(y.to_bytes(32, "little")))
    with pytest.raises(InputError):
        PublicKey(PREFIX + off_curve.to_bytes(32, "little"))


def test_every_generated_key_is_taken() -> None:
    for _ in range(50):
        raw = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        assert is_sound_point(raw)
        y = int.from_bytes(raw, "little") & ~(1 << 255)
        assert y < PRIME

    assert SigningKey.generate().public.pem
