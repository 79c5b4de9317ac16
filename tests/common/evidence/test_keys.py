from __future__ import annotations

import base64
import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from common.errors import EvidenceError, InputError
from common.evidence.key_history import KeyHistory, KeyRecord
from common.evidence.keys import P256_ORDER, PinnedKeys, PublicKey, SigningKey
from common.evidence.schema import decode, encode


@pytest.fixture(scope="module", params=["ed25519", "ecdsa-p256"])
def key(request: pytest.FixtureRequest) -> SigningKey:
    return SigningKey.generate(request.param)


def test_a_signature_holds_for_its_message_and_key_alone(key: SigningKey) -> None:
    signature = key.sign(b"message")
    key.public.verify(signature, b"message")
    for wrong in (b"", b"messagf", b"message "):
        with pytest.raises(EvidenceError):
            key.public.verify(signature, wrong)

    with pytest.raises(EvidenceError):
        SigningKey.generate().public.verify(signature, b"message")
    for damaged in (b"", signature[:-1], signature + b"\0"):
        with pytest.raises(EvidenceError):
            key.public.verify(damaged, b"message")


def test_a_key_opens_with_its_passphrase_alone(key: SigningKey) -> None:
    pem = key.to_pem(b"correct horse")
    assert b"ENCRYPTED" in pem
    assert SigningKey.from_pem(pem, b"correct horse").public == key.public
    with pytest.raises(InputError, match="passphrase"):
        SigningKey.from_pem(pem, b"battery staple")
    with pytest.raises(InputError, match="passphrase"):
        key.to_pem(b"")


def test_the_keyid_is_what_openssl_says_the_fingerprint_is(key: SigningKey) -> None:
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "DER"], input=key.public.pem, capture_output=True, check=True
    ).stdout
    assert key.public.keyid == hashlib.sha256(der).hexdigest()


def test_a_public_key_survives_the_way_through_pem_with_any_line_ends(key: SigningKey) -> None:
    assert PublicKey.from_pem(key.public.pem) == key.public
    assert PublicKey.from_pem(key.public.pem.replace(b"\n", b"\r\n")) == key.public


def test_what_shows_a_key_never_shows_its_secret(key: SigningKey) -> None:
    assert repr(key) == f"SigningKey({key.public.keyid})"


def test_a_key_in_the_clear_or_of_another_kind_is_refused() -> None:
    clear = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(InputError, match="not encrypted"):
        SigningKey.from_pem(clear, b"x")
    other_curve = ec.generate_private_key(ec.SECP384R1()).public_key()
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    for other in (other_curve, rsa_key):
        with pytest.raises(InputError, match="neither"):
            PublicKey(other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def test_a_compressed_point_is_refused_because_it_would_have_a_second_fingerprint(tmp_path: Path) -> None:
    pem = SigningKey.generate("ecdsa-p256").public.pem
    command = ["openssl", "pkey", "-pubin", "-ec_conv_form", "compressed"]
    compressed = subprocess.run(command, input=pem, capture_output=True, check=True).stdout
    assert compressed != pem
    with pytest.raises(InputError, match="unusual encoding"):
        PublicKey.from_pem(compressed)


@pytest.mark.parametrize("wrong", [b"", b"text", b"-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----"])
def test_what_is_no_public_key_is_refused(wrong: bytes) -> None:
    with pytest.raises(InputError):
        PublicKey.from_pem(wrong)


def test_two_keys_in_one_file_are_refused() -> None:
    pem = SigningKey.generate().public.pem
    with pytest.raises(InputError):
        PublicKey.from_pem(pem + pem)


def test_the_second_ecdsa_signature_that_anyone_can_make_is_refused() -> None:
    key = SigningKey.generate("ecdsa-p256")
    for _ in range(8):
        r, s = decode_dss_signature(key.sign(b"message"))
        assert s <= P256_ORDER // 2

    with pytest.raises(EvidenceError, match="low s"):
        key.public.verify(encode_dss_signature(r, P256_ORDER - s), b"message")


def test_one_key_cannot_stand_for_two_parties() -> None:
    key = SigningKey.generate().public
    with pytest.raises(InputError, match="twice"):
        PinnedKeys.of([("site", key), ("server", key)])


def test_a_published_ed25519_vector_verifies() -> None:
    # RFC 8032, 7.1, TEST 2.
    raw = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    der = base64.b64decode("MCowBQYDK2VwAyEA") + raw
    PublicKey(der).verify(signature, b"\x72")


OLD = SigningKey.generate().public
NEW = SigningKey.generate("ecdsa-p256").public
START = "2026-01-01T00:00:00Z"
MIDDLE = "2026-06-01T00:00:00Z"
END = "2026-12-01T00:00:00Z"


def test_a_rotated_key_is_good_for_what_it_signed_before() -> None:
    history = KeyHistory().add("site", OLD, START).rotate(OLD, NEW, MIDDLE)
    assert history.at(START).entries == (("site", OLD),)
    assert history.at("2026-05-31T23:59:59Z").entries == (("site", OLD),)
    assert history.at(MIDDLE).entries == history.at(END).entries == (("site", NEW),)
    assert history.at("2025-12-31T23:59:59Z").entries == ()


def test_a_revoked_key_is_trusted_for_nothing_from_then_on_and_keeps_its_first_date() -> None:
    history = KeyHistory().add("site", OLD, START).add("server", NEW, START).revoke(OLD, MIDDLE)
    assert history.at(END).entries == history.unrevoked().entries == (("server", NEW),)
    assert history.revoke(OLD, END) == history
    with pytest.raises(EvidenceError):
        history.rotate(OLD, SigningKey.generate().public, END)


def test_a_history_survives_the_way_to_its_file() -> None:
    history = KeyHistory().add("site", OLD, START).rotate(OLD, NEW, MIDDLE).revoke(NEW, END)
    assert decode(KeyHistory, encode(history)) == history


def test_a_history_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(EvidenceError, match="twice"):
        KeyHistory().add("site", OLD, START).add("server", OLD, START)
    with pytest.raises(EvidenceError, match="not in"):
        KeyHistory().revoke(OLD, START)
    with pytest.raises(EvidenceError, match="not after"):
        KeyRecord("site", OLD.pem.decode(), MIDDLE, START)
    with pytest.raises(EvidenceError, match="UTC"):
        KeyRecord("site", OLD.pem.decode(), "yesterday")
