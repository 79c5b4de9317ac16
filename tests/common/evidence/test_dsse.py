from __future__ import annotations

import base64
import dataclasses
import json

import pytest

from common.errors import EvidenceError
from common.evidence import dsse
from common.evidence.canonical import Json, canonical
from common.evidence.keys import PinnedKeys, SigningKey

TYPE = "application/example"
SITE = SigningKey.generate()
SERVER = SigningKey.generate("ecdsa-p256")
STRANGER = SigningKey.generate()
PINNED = PinnedKeys.of([("site", SITE.public), ("server", SERVER.public)])
BOTH = {"site": 1, "server": 1}


def signed(*keys: SigningKey) -> dsse.Envelope:
    return dsse.sign(TYPE, b"payload", *keys)


def test_the_pae_is_that_of_the_protocols_example() -> None:
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert dsse.pae("a/ö", b"") == b"DSSEv1 4 a/\xc3\xb6 0 "


def test_an_envelope_says_who_signed_it() -> None:
    envelope = dsse.decode_envelope(dsse.encode_envelope(signed(SITE, SERVER)))
    assert envelope.body == b"payload"
    assert dsse.verify(envelope, TYPE, PINNED, BOTH) == ("server", "site")


def test_a_later_signature_joins_the_first() -> None:
    assert dsse.verify(dsse.add_signature(signed(SERVER), SITE), TYPE, PINNED, BOTH) == ("server", "site")
    with pytest.raises(EvidenceError, match="twice"):
        dsse.add_signature(signed(SITE), SITE)


def test_one_signer_is_not_enough_where_two_are_needed() -> None:
    with pytest.raises(EvidenceError, match="'server', 1 needed"):
        dsse.verify(signed(SITE), TYPE, PINNED, BOTH)
    with pytest.raises(EvidenceError, match="2 needed"):
        dsse.verify(signed(SITE, SERVER), TYPE, PINNED, {"site": 2})


def test_a_stranger_beside_the_right_signers_is_refused() -> None:
    with pytest.raises(EvidenceError, match="not among the pinned"):
        dsse.verify(signed(SITE, SERVER, STRANGER), TYPE, PINNED, BOTH)


def test_a_payload_of_another_type_is_refused() -> None:
    with pytest.raises(EvidenceError, match="payload type"):
        dsse.verify(signed(SITE, SERVER), "application/other", PINNED, BOTH)


def test_a_signature_under_another_keyid_or_type_does_not_hold() -> None:
    first, second = signed(SITE, SERVER).signatures
    swapped = (dsse.Signature(first.keyid, second.sig), dsse.Signature(second.keyid, first.sig))

    for changed in (
        dataclasses.replace(signed(SITE, SERVER), signatures=swapped),
        dataclasses.replace(signed(SITE, SERVER), payload=base64.b64encode(b"Payload").decode()),
    ):
        with pytest.raises(EvidenceError, match="does not fit"):
            dsse.verify(changed, TYPE, PINNED, BOTH)

    relabelled = dataclasses.replace(signed(SITE, SERVER), payload_type="application/other")
    with pytest.raises(EvidenceError, match="does not fit"):
        dsse.verify(relabelled, "application/other", PINNED, BOTH)


def _changed(**fields: Json) -> bytes:
    return canonical({**json.loads(dsse.encode_envelope(signed(SITE, SERVER))), **fields})


ONE = json.loads(dsse.encode_envelope(signed(SITE)))["signatures"][0]


@pytest.mark.parametrize(
    "data",
    [
        _changed(payload="cGF5bG9hZA"),
        _changed(payload="cGF5bG9hZB=="),
        _changed(payload="cGF5 bG9hZA=="),
        _changed(payload="cGF5bG9hZA==\n"),
        _changed(payload="_-8="),
        _changed(payload=7),
        _changed(payloadType=""),
        _changed(extra=1),
        _changed(signatures=[]),
        _changed(signatures=list(reversed(json.loads(dsse.encode_envelope(signed(SITE, SERVER)))["signatures"]))),
        _changed(signatures=[ONE, ONE]),
        _changed(signatures=[{**ONE, "keyid": ONE["keyid"].upper()}]),
        _changed(signatures=[{**ONE, "keyid": ""}]),
        _changed(signatures=[{"sig": ONE["sig"]}]),
        _changed(signatures=[{**ONE, "sig": ONE["sig"].rstrip("=")}]),
        _changed(signatures=[{**ONE, "cert": "x"}]),
        json.dumps(json.loads(_changed()), indent=2).encode(),
        _changed() + b"\n",
    ],
)
def test_an_envelope_in_any_other_form_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        dsse.decode_envelope(data)
