"""Signing in at a FHIR server with a key, as SMART Backend Services has it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from client.intake.fhir.pull.links import check_address
from client.intake.fhir.pull.pull import pull
from client.intake.fhir.pull.smart import SignIn, assertion, public_jwk
from client.intake.fhir.server import FhirServer, http_client, token_url
from common.errors import ConfigError

KEY = ec.generate_private_key(ec.SECP384R1())
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_an_assertion_verifies_with_the_published_key_alone() -> None:
    jwk: Any = public_jwk(KEY.public_key())
    head, claims, signature = assertion(KEY, "north", "https://ehr.example/token", NOW).split(".")
    x, y = (int.from_bytes(decoded(jwk[part])) for part in ("x", "y"))
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP384R1()).public_key()
    raw = decoded(signature)
    assert len(raw) == 96
    der = encode_dss_signature(int.from_bytes(raw[:48]), int.from_bytes(raw[48:]))
    public.verify(der, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA384()))
    assert json.loads(decoded(head)) == {"alg": "ES384", "kid": jwk["kid"], "typ": "JWT"}
    said = json.loads(decoded(claims))
    assert (said["iss"], said["sub"], said["aud"]) == ("north", "north", "https://ehr.example/token")
    assert 0 < said["exp"] - NOW.timestamp() <= 300
    assert "d" not in jwk


def test_no_two_assertions_are_alike() -> None:
    found = [json.loads(decoded(assertion(KEY, "n", "a", NOW).split(".")[1]))["jti"] for _ in range(20)]
    assert len(set(found)) == 20


def test_one_token_serves_until_the_server_wants_another(
    ehr: Any, make_intake: Callable[..., Any], tmp_path: Any
) -> None:
    ehr.write(ehr.consent("c-1", "p-1", "inactive"))
    with http_client(None) as http:
        place = token_url(http, ehr.base)
        ehr.token = "nobody has this"
        server = FhirServer(http, ehr.base, SignIn(http, place, "north", "system/Consent.rs", KEY, lambda: NOW))
        intake = make_intake(tmp_path / "site", base=ehr.base)
        assert pull(server, intake, intake.clock() - intake.clock()).revoked == 1
        pull(server, intake, intake.clock() - intake.clock())
        assert len(ehr.tokens_asked) == 1
        ehr.token = "rotated"
        pull(server, intake, intake.clock() - intake.clock())

    assert len(ehr.tokens_asked) == 2
    asked = ehr.tokens_asked[0]
    assert asked["grant_type"] == ["client_credentials"]
    assert asked["scope"] == ["system/Consent.rs"]
    assert asked["client_assertion_type"] == ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"]


@pytest.mark.parametrize("url", ["http://ehr.example/fhir", "ftp://127.0.0.1/", "https://a:b@ehr.example/", "fhir", ""])
def test_only_https_and_this_machine_are_dialled(url: str) -> None:
    with pytest.raises(ConfigError):
        check_address(url, "server")


def test_a_slash_at_the_end_of_an_address_does_not_count() -> None:
    assert check_address("https://ehr.example/fhir/", "server") == "https://ehr.example/fhir"
    assert check_address("http://127.0.0.1:1/fhir", "server") == "http://127.0.0.1:1/fhir"
