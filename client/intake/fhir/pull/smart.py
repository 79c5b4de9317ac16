"""SMART Backend Services sign-in: a token for a key that was made here and never leaves.

https://hl7.org/fhir/smart-app-launch/backend-services.html: `client_credentials` with a `private_key_jwt` (RFC 7523),
signed with ES384 (RFC 7518, section 3.4).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from common.errors import RefusedError, UnavailableError, WireError

_LIFETIME = timedelta(minutes=4)
"""Of the assertion; the specification allows five minutes."""
_EARLY = timedelta(seconds=30)
_UNLESS_SAID = timedelta(minutes=5)
"""For how long a token is used if the server does not say."""
_LONGEST = timedelta(days=1)
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}", re.ASCII)
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_COORDINATE_BYTES = 48


def public_jwk(key: ec.EllipticCurvePublicKey) -> dict[str, object]:
    """The public key as a JWK (RFC 7517), named by its thumbprint (RFC 7638)."""
    numbers = key.public_numbers()
    parameters = {
        "crv": "P-384",
        "kty": "EC",
        "x": _base64url(numbers.x.to_bytes(_COORDINATE_BYTES)),
        "y": _base64url(numbers.y.to_bytes(_COORDINATE_BYTES)),
    }
    kid = _base64url(hashlib.sha256(json.dumps(parameters, separators=(",", ":"), sort_keys=True).encode()).digest())

    return {**parameters, "kid": kid, "alg": "ES384", "use": "sig", "key_ops": ["verify"]}


def assertion(key: ec.EllipticCurvePrivateKey, client_id: str, audience: str, at: datetime) -> str:
    """A signed statement that we are `client_id`, for one use at the token endpoint `audience`."""
    header = {"alg": "ES384", "kid": public_jwk(key.public_key())["kid"], "typ": "JWT"}
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": secrets.token_hex(16),
        "iat": int(at.timestamp()),
        "exp": int((at + _LIFETIME).timestamp()),
    }
    signing_input = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
    # JWS has r and s side by side (RFC 7518, section 3.4), and not in DER.
    r, s = decode_dss_signature(key.sign(signing_input.encode("ascii"), ec.ECDSA(hashes.SHA384())))

    return f"{signing_input}.{_base64url(r.to_bytes(_COORDINATE_BYTES) + s.to_bytes(_COORDINATE_BYTES))}"


@dataclass(slots=True)
class SignIn:
    """Tokens of one client at one token endpoint; one is kept until shortly before it ends."""

    http: httpx.Client
    token_url: str
    client_id: str
    scope: str
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    clock: Callable[[], datetime]
    _token: str = field(init=False, repr=False, default="")
    _until: datetime | None = field(init=False, default=None)

    def token(self) -> str:
        """A token that is still good.

        Raises:
            RefusedError: the server does not know this client, or refuses it.
            UnavailableError: it does not answer.
            WireError: its answer is no token.
        """
        now = self.clock()

        if self._until is None or now >= self._until:
            self._token, lifetime = self._ask(now)
            # A short life is halved: a token must not end on its way.
            self._until = now + max(lifetime - _EARLY, lifetime / 2)

        return self._token

    def forget(self) -> None:
        """The server does not take the token any more."""
        self._until = None

    def _ask(self, now: datetime) -> tuple[str, timedelta]:
        form = {
            "grant_type": "client_credentials",
            "scope": self.scope,
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": assertion(self.key, self.client_id, self.token_url, now),
        }
        try:
            answer = self.http.post(self.token_url, data=form, headers={"accept": "application/json"})
        except httpx.HTTPError as err:
            raise UnavailableError(f"{self.token_url}: no answer ({type(err).__name__})") from None

        if answer.is_redirect:
            # Not followed: what is sent is good for one address, and another host must not have it.
            raise WireError(f"{self.token_url}: the sign-in was moved: set token_url in site.toml to where it is now")

        if 400 <= answer.status_code < 500 and answer.status_code != 429:
            raise RefusedError(
                f"{self.token_url}: sign-in refused ({answer.status_code}): is the key in jwks.json registered there?"
            )

        if answer.status_code != 200:
            raise UnavailableError(f"{self.token_url}: sign-in failed ({answer.status_code})")
        return _read_token(answer, self.token_url)


def _read_token(answer: httpx.Response, place: str) -> tuple[str, timedelta]:
    try:
        values = answer.json()
    except (ValueError, RecursionError):
        values = None

    if not isinstance(values, dict):
        raise WireError(f"{place}: the answer to the sign-in is not a JSON object")
    token = values.get("access_token")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise WireError(f"{place}: the answer to the sign-in holds no token")
    kind = values.get("token_type")
    if kind is not None and str(kind).strip().lower() != "bearer":
        raise WireError(f"{place}: the answer to the sign-in is no bearer token, and no other kind is known here")
    return token, _lifetime(values.get("expires_in"))


def _lifetime(seconds: object) -> timedelta:
    """How long a token is good: a number, or a number as text; anything else says nothing."""
    try:
        is_number = isinstance(seconds, int | float | str) and not isinstance(seconds, bool)
        number = float(str(seconds)) if is_number else math.nan
    except ValueError:
        number = math.nan

    return _UNLESS_SAID if math.isnan(number) else timedelta(seconds=min(max(number, 0.0), _LONGEST.total_seconds()))


def _base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode("ascii")
